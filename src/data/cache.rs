//! Token shards that were made from text, kept in the user's cache folder.
//!
//! A shard's name is a hash of the text, the tokenizer and what else its tokens depend on. It is written under another
//! name and then renamed; when it is opened, its header and its tokens are held against their hashes. A shard that is
//! not as it was written is made again.

use super::blocks::{BLOCK, StreamHash, hash};
use super::tokens::{Store, Tokens, Width};
use crate::error::{Error, Result};
use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::Hasher;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What every shard begins with: a mark and the version of the format.
const MAGIC: u64 = u64::from_le_bytes(*b"hdltok\0\x01");
/// Words of the header: mark, name, tokens, bytes of text, documents, hash of the tokens, hash of the words before.
const WORDS: usize = 7;
const HEADER: usize = 8 * WORDS;
/// Age from which a file under a temporary name was left by a process that ended.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// Where shards are kept, and from which size of text on.
#[derive(Clone, Debug)]
pub struct Cache {
    /// The folder; made when needed.
    pub folder: PathBuf,
    /// Text of fewer bytes is tokenised anew each time, and its tokens stay in memory.
    pub smallest: u64,
}

/// Counts of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Token numbers, ends of texts included.
    pub tokens: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Documents.
    pub documents: u64,
}

impl Totals {
    /// Adds `other`.
    pub fn add(&mut self, other: Totals) {
        self.tokens += other.tokens;
        self.bytes += other.bytes;
        self.documents += other.documents;
    }
}

impl Cache {
    /// The user's cache folder, or that of temporary files where there is none.
    pub fn of_user() -> Cache {
        let folder = crate::gpu::cache::folder(|name| std::env::var_os(name));
        let folder = folder.unwrap_or_else(std::env::temp_dir).join("hadal").join("tokens");
        Cache { folder, smallest: 4 << 20 }
    }

    fn path(&self, name: u64) -> PathBuf {
        self.folder.join(format!("{name:016x}.bin"))
    }

    /// The shard called `name`, if it is there and whole.
    pub fn find(&self, name: u64, vocab: usize) -> Option<(Tokens, Totals)> {
        let path = self.path(name);
        let file = File::open(&path).ok()?;
        let mut head = [0; HEADER];
        super::blocks::read_at(&file, &mut head, 0).ok()?;
        let words: [u64; WORDS] = bytemuck::cast(head);
        let [magic, found, tokens, bytes, documents, content, own] = words.map(u64::from_le);
        let width = Width::of(vocab);
        let length = tokens.checked_mul(width.bytes() as u64)?;
        let is_file =
            file.metadata().ok().filter(std::fs::Metadata::is_file)?.len() == length.checked_add(HEADER as u64)?;
        let whole = is_file && (magic, found, own) == (MAGIC, name, header_hash(&head));
        if !whole || hash(&file, HEADER as u64, length).ok()? != content {
            return None;
        }
        let tokens_of = Tokens { path, store: Store::Held(file), offset: HEADER as u64, width, count: tokens, vocab };
        Some((tokens_of, Totals { tokens, bytes, documents }))
    }

    /// Begins the shard called `name`.
    pub fn create(&self, name: u64, vocab: usize) -> Result<Writer> {
        std::fs::create_dir_all(&self.folder).map_err(|e| Error::write(&self.folder, e))?;
        self.sweep();
        let path = self.path(name);
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let mut file = File::create(&temporary).map_err(|e| Error::write(&temporary, e))?;
        file.write_all(&[0; HEADER]).map_err(|e| Error::write(&temporary, e))?;
        let (width, buffer) = (Width::of(vocab), Vec::new());
        Ok(Writer { path, temporary, file, width, buffer, stream: StreamHash::default(), tokens: 0 })
    }

    /// Removes what ended processes left.
    fn sweep(&self) {
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let age =
                entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| SystemTime::now().duration_since(t).ok());
            if Path::new(&entry.file_name()).extension().is_some_and(|e| e == "tmp")
                && age.is_some_and(|age| age > STALE)
            {
                let _ = std::fs::remove_file(entry.path()); // another process may have been faster
            }
        }
    }
}

/// Hash of all words of a header but the last.
fn header_hash(head: &[u8; HEADER]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(&head[..HEADER - 8]);
    hasher.finish()
}

/// A shard in the making; without [`Writer::finish`] nothing of it stays.
pub struct Writer {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    width: Width,
    buffer: Vec<u8>,
    stream: StreamHash,
    tokens: u64,
}

impl Writer {
    /// Appends tokens.
    pub fn push(&mut self, ids: &[u32]) -> Result<()> {
        self.tokens += ids.len() as u64;
        self.width.write(ids, &mut self.buffer);
        let whole = self.buffer.len() / BLOCK * BLOCK;
        self.flush(whole)
    }

    fn flush(&mut self, bytes: usize) -> Result<()> {
        self.buffer[..bytes].chunks(BLOCK).for_each(|block| self.stream.block(block));
        self.file.write_all(&self.buffer[..bytes]).map_err(|e| Error::write(&self.temporary, e))?;
        self.buffer.drain(..bytes);
        Ok(())
    }

    /// Completes the shard under its name.
    pub fn finish(mut self, name: u64, bytes: u64, documents: u64) -> Result<()> {
        self.flush(self.buffer.len())?;
        let words = [MAGIC, name, self.tokens, bytes, documents, self.stream.finish(), 0];
        let mut head: [u8; HEADER] = bytemuck::cast(words.map(u64::to_le));
        let own = header_hash(&head);
        head[HEADER - 8..].copy_from_slice(&own.to_le_bytes());
        let done = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.write_all(&head));
        done.and_then(|()| std::fs::rename(&self.temporary, &self.path)).map_err(|e| Error::write(&self.path, e))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.temporary); // gone already if the shard was finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(cache: &Cache, ids: &[u32]) -> PathBuf {
        let mut writer = cache.create(7, 50_257).unwrap();
        ids.chunks(1000).for_each(|ids| writer.push(ids).unwrap());
        writer.finish(7, 123, 4).unwrap();
        cache.path(7)
    }

    #[test]
    fn a_shard_comes_back_as_it_was_written_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache { folder: dir.path().join("a/b"), smallest: 0 };
        let ids: Vec<u32> = (0..1_500_000).map(|i| i % 50_257).collect();
        drop(cache.create(8, 50_257).unwrap());
        written(&cache, &ids);
        let (tokens, totals) = cache.find(7, 50_257).unwrap();
        assert_eq!(totals, Totals { tokens: ids.len() as u64, bytes: 123, documents: 4 });
        let mut back = Vec::new();
        tokens.read(3, ids.len() - 3, &mut back).unwrap();
        assert_eq!(back, ids[3..]);
        assert!(cache.find(8, 50_257).is_none());
        assert_eq!(std::fs::read_dir(&cache.folder).unwrap().count(), 1);
    }

    #[test]
    fn a_shard_with_any_changed_or_missing_byte_is_no_shard() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache { folder: dir.path().to_owned(), smallest: 0 };
        let path = written(&cache, &[1, 2, 3, 50_256]);
        let whole = std::fs::read(&path).unwrap();
        assert!(cache.find(7, 50_257).is_some());
        assert!(cache.find(7, 100_000).is_none(), "of another width");
        for i in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[i] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            assert!(cache.find(7, 50_257).is_none(), "byte {i}");
            std::fs::write(&path, &whole[..i]).unwrap();
            assert!(cache.find(7, 50_257).is_none(), "cut to {i} bytes");
        }
        std::fs::write(&path, &whole).unwrap();
        std::fs::rename(&path, cache.path(9)).unwrap();
        assert!(cache.find(9, 50_257).is_none(), "under another name");
    }
}
