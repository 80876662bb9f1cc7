//! Token shards that were made from text, kept in the user's cache folder.
//!
//! A shard's name is a hash of the text, the tokenizer and what else its tokens depend on. It is written under another
//! name and then renamed; when it is opened, its header and its tokens are held against their hashes. A shard that is
//! not as it was written is made again.

use super::blocks::{BLOCK, StreamHash, hash, read_at};
use super::tokens::{Store, Tokens, Width};
use crate::cache::NewFile;
use crate::error::{Error, Result};
use crate::input;
use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::Hasher;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What every shard begins with: a mark and the version of the format.
const MAGIC: u64 = u64::from_le_bytes(*b"hdltok\0\x01");
/// Words of the header: mark, name, tokens, bytes of text, documents, hash of the tokens, hash of the words before.
const WORDS: usize = 7;
const HEADER: usize = 8 * WORDS;

/// Where shards are kept, and from which size of text on.
#[derive(Clone, Debug)]
pub struct Cache {
    /// The folder; made when needed. Without one, tokens go with the process.
    pub folder: Option<PathBuf>,
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
    /// The user's cache folder, where there is one.
    pub fn of_user() -> Cache {
        let folder = crate::cache::folder(|name| std::env::var_os(name));
        Cache { folder: folder.map(|folder| folder.join("hadal").join("tokens")), smallest: 4 << 20 }
    }

    fn path(&self, name: u64) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("{name:016x}.bin")))
    }

    /// The shard called `name`, if it is there and whole.
    pub fn find(&self, name: u64, vocab: usize) -> Option<(Tokens, Totals)> {
        let path = self.path(name)?;
        let file = input::open(&path).ok()?;
        let mut head = [0; HEADER];
        read_at(&file, &mut head, 0).ok()?;
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

    /// Begins the shard called `name`: in the folder, or where that cannot be written to, elsewhere for this process.
    ///
    /// # Errors
    /// If what was written cannot be read back.
    pub fn create(&self, name: u64, vocab: usize) -> Result<Writer> {
        let (sink, lost) = match self.path(name).map(NewFile::create) {
            Some(Ok(new)) => (Sink::Kept(new), None),
            Some(Err(e)) => (Sink::passing(), Some(refusal(self.folder.as_deref(), &e))),
            None => (Sink::passing(), Some("the environment names no folder for caches".to_owned())),
        };
        let path = self.path(name).unwrap_or_else(|| "tokens".into());
        let (width, buffer, stream) = (Width::of(vocab), Vec::new(), StreamHash::default());
        let mut writer = Writer { path, sink, lost, name, vocab, width, buffer, stream, written: 0, tokens: 0 };
        writer.write(&[0; HEADER])?;
        Ok(writer)
    }

    /// Removes what ended processes left.
    pub fn sweep(&self) {
        self.folder.iter().for_each(|folder| crate::cache::sweep(folder));
    }
}

/// Why a folder keeps nothing.
fn refusal(folder: Option<&Path>, e: &io::Error) -> String {
    Error::write(folder.unwrap_or(Path::new("")), io::Error::new(e.kind(), e.to_string())).to_string()
}

/// Hash of all words of a header but the last.
fn header_hash(head: &[u8; HEADER]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(&head[..HEADER - 8]);
    hasher.finish()
}

/// Where a shard is written to.
enum Sink {
    /// A file of the cache.
    Kept(NewFile),
    /// A file without a name, which goes with the process.
    Passing(File),
    /// No file at all.
    Memory(Vec<u8>),
}

impl Sink {
    /// The best that there is beside the cache.
    fn passing() -> Sink {
        tempfile::tempfile().map_or_else(|_| Sink::Memory(Vec::new()), Sink::Passing)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Sink::Kept(new) => new.as_file().write_all(bytes),
            Sink::Passing(file) => file.write_all(bytes),
            Sink::Memory(memory) => memory.write_all(bytes),
        }
    }

    /// Fills `bytes` from `at` on with what was written.
    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        match self {
            Sink::Kept(new) => read_at(new.as_file(), bytes, at),
            Sink::Passing(file) => read_at(file, bytes, at),
            Sink::Memory(memory) => {
                bytes.copy_from_slice(&memory[at as usize..][..bytes.len()]);
                Ok(())
            }
        }
    }
}

/// A shard in the making; without [`Writer::finish`] nothing of it stays. Where the cache has no room, what there is of
/// the shard moves to a file without a name, and from there, if that has none either, to memory.
pub struct Writer {
    path: PathBuf,
    sink: Sink,
    lost: Option<String>,
    name: u64,
    vocab: usize,
    width: Width,
    buffer: Vec<u8>,
    stream: StreamHash,
    written: u64,
    tokens: u64,
}

impl Writer {
    /// Appends tokens.
    ///
    /// # Errors
    /// If what was written before cannot be read back.
    pub fn push(&mut self, ids: &[u32]) -> Result<()> {
        self.tokens += ids.len() as u64;
        self.width.write(ids, &mut self.buffer);
        let whole = self.buffer.len() / BLOCK * BLOCK;
        self.flush(whole)
    }

    fn flush(&mut self, bytes: usize) -> Result<()> {
        let rest = self.buffer.split_off(bytes);
        let whole = std::mem::replace(&mut self.buffer, rest);
        whole.chunks(BLOCK).for_each(|block| self.stream.block(block));
        self.write(&whole)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        while let Err(e) = self.sink.append(bytes) {
            self.retreat(&e)?;
        }
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Goes on elsewhere with what was written so far.
    fn retreat(&mut self, reason: &io::Error) -> Result<()> {
        self.lost.get_or_insert_with(|| refusal(self.path.parent(), reason));
        let memory = || Sink::Memory(Vec::new());
        let next = if matches!(self.sink, Sink::Kept(_)) { Sink::passing() } else { memory() };
        let moved = self.moved(next).or_else(|_| self.moved(memory()));
        self.sink = moved.map_err(|e| Error::io(&self.path, e))?;
        Ok(())
    }

    /// `to` with what was written so far.
    fn moved(&self, mut to: Sink) -> io::Result<Sink> {
        let mut block = vec![0; BLOCK];
        for at in (0..self.written).step_by(BLOCK) {
            let block = &mut block[..(self.written - at).min(BLOCK as u64) as usize];
            self.sink.read(block, at)?;
            to.append(block)?;
        }
        Ok(to)
    }

    /// Completes the shard, in the cache under its name; gives its tokens, and why they are not kept, if they are not.
    ///
    /// # Errors
    /// If the disk does not give back what was written.
    pub fn finish(mut self, bytes: u64, documents: u64) -> Result<(Tokens, Option<String>)> {
        self.flush(self.buffer.len())?;
        let content = self.stream.finish();
        let words = [MAGIC, self.name, self.tokens, bytes, documents, content, 0];
        let mut head: [u8; HEADER] = bytemuck::cast(words.map(u64::to_le));
        let own = header_hash(&head);
        head[HEADER - 8..].copy_from_slice(&own.to_le_bytes());
        let store = self.store(&head)?;
        let length = self.written - HEADER as u64;
        let is_sound = |file: &File| hash(file, HEADER as u64, length).is_ok_and(|found| found == content);
        if matches!(&store, Store::Held(file) if !is_sound(file)) {
            return Err(Error::file(&self.path, "does not keep what is written there; is the disk sound?"));
        }
        let Writer { path, width, tokens, vocab, lost, .. } = self;
        Ok((Tokens { path, store, offset: HEADER as u64, width, count: tokens, vocab }, lost))
    }

    /// What the tokens are read from.
    fn store(&mut self, head: &[u8; HEADER]) -> Result<Store> {
        loop {
            let refused = match std::mem::replace(&mut self.sink, Sink::Memory(Vec::new())) {
                Sink::Passing(file) => return Ok(Store::Held(file)),
                Sink::Memory(bytes) => return Ok(Store::Memory(bytes)),
                Sink::Kept(new) => {
                    let mut file = new.as_file();
                    let headed = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(head));
                    let kept = match headed {
                        Ok(()) => new.keep(),
                        Err(e) => Err((e, new)),
                    };
                    match kept {
                        Ok(file) => return Ok(Store::Held(file)),
                        Err(refused) => refused,
                    }
                }
            };
            self.sink = Sink::Kept(refused.1);
            self.retreat(&refused.0)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(cache: &Cache, ids: &[u32]) -> Writer {
        let mut writer = cache.create(7, 50_257).unwrap();
        ids.chunks(1000).for_each(|ids| writer.push(ids).unwrap());
        writer
    }

    fn written(cache: &Cache, ids: &[u32]) -> PathBuf {
        assert_eq!(filled(cache, ids).finish(123, 4).unwrap().1, None);
        cache.path(7).unwrap()
    }

    fn read(tokens: &Tokens, start: u64) -> Vec<u32> {
        let mut ids = Vec::new();
        tokens.read(start, (tokens.count - start) as usize, &mut ids).unwrap();
        ids
    }

    #[test]
    fn a_shard_comes_back_as_it_was_written_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache { folder: Some(dir.path().join("a/b")), smallest: 0 };
        let ids: Vec<u32> = (0..1_500_000).map(|i| i % 50_257).collect();
        drop(cache.create(8, 50_257).unwrap());
        written(&cache, &ids);
        let (tokens, totals) = cache.find(7, 50_257).unwrap();
        assert_eq!(totals, Totals { tokens: ids.len() as u64, bytes: 123, documents: 4 });
        assert_eq!(read(&tokens, 3), ids[3..]);
        assert!(cache.find(8, 50_257).is_none());
        assert_eq!(std::fs::read_dir(cache.folder.unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_shard_with_any_changed_or_missing_byte_is_no_shard() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache { folder: Some(dir.path().to_owned()), smallest: 0 };
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
        std::fs::rename(&path, cache.path(9).unwrap()).unwrap();
        assert!(cache.find(9, 50_257).is_none(), "under another name");
    }

    #[test]
    fn tokens_that_the_cache_does_not_take_are_the_same_and_said_not_to_be_kept() {
        let dir = tempfile::tempdir().unwrap();
        let ids: Vec<u32> = (0..1_500_000).map(|i| i % 50_257).collect();
        std::fs::write(dir.path().join("file"), "").unwrap();
        for (folder, word) in [(None, "no folder"), (Some(dir.path().join("file/tokens")), "file/tokens")] {
            let (tokens, lost) = filled(&Cache { folder, smallest: 0 }, &ids).finish(123, 4).unwrap();
            assert!(lost.as_ref().is_some_and(|lost| lost.contains(word)), "{lost:?}");
            assert_eq!(read(&tokens, 0), ids);
        }
        // A disk that is full after some of it: to another file, and from there to memory.
        let cache = Cache { folder: Some(dir.path().join("cache")), smallest: 0 };
        for times in 1..3 {
            let mut writer = filled(&cache, &ids[..1_200_000]);
            (0..times).for_each(|_| writer.retreat(&io::ErrorKind::StorageFull.into()).unwrap());
            writer.push(&ids[1_200_000..]).unwrap();
            let (tokens, lost) = writer.finish(123, 4).unwrap();
            assert!(lost.is_some_and(|lost| lost.contains("cache: cannot be written")));
            assert_eq!(matches!(tokens.store, Store::Memory(_)), times == 2);
            assert_eq!(read(&tokens, 0), ids);
            assert_eq!(std::fs::read_dir(dir.path().join("cache")).unwrap().count(), 0, "nothing is left");
        }
    }

    #[cfg(unix)]
    #[test]
    fn no_link_in_the_cache_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache { folder: Some(dir.path().to_owned()), smallest: 0 };
        let (shard, victim) = (cache.path(7).unwrap(), dir.path().join("precious"));
        std::fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, &shard).unwrap();
        written(&cache, &[1, 2, 3]);
        assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
        assert!(!shard.is_symlink() && cache.find(7, 50_257).is_some());
    }
}
