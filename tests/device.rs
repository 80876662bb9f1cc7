//! What an executor does between dispatches: transfers in pieces, and pipelines kept from run to run.

mod common;

use common::gpu;
use hadal::gpu::cache::PipelineCache;
use hadal::gpu::transfer::{Downloads, PIECE, Uploads};
use std::fs;

#[test]
fn transfers_of_many_ragged_pieces_arrive_whole_and_in_order() {
    let Some(gpu) = gpu() else { return };
    let size = 6 * PIECE + 20;
    let buffer = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: size as u64,
        usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let (mut uploads, mut downloads) = (Uploads::default(), Downloads::default());
    let words = |seed: u32| (0..size as u32 / 4).map(|i| i.wrapping_mul(2_654_435_761) ^ seed).collect::<Vec<u32>>();
    for seed in 0..2 {
        let sent = words(seed);
        uploads.write(&gpu, &buffer, bytemuck::cast_slice(&sent)).unwrap();
        // Overwritten at once: what was sent before comes first, and a shorter write leaves the rest.
        uploads.write(&gpu, &buffer, &[0xff; 8]).unwrap();
        let mut found: Vec<u8> = Vec::new();
        downloads.read(&gpu, &buffer, size as u64, |part| found.extend_from_slice(part)).unwrap();
        assert!(found[..8] == [0xff; 8] && found[8..] == bytemuck::cast_slice::<u32, u8>(&sent)[8..], "{seed}");
        let mut start = Vec::new();
        downloads.read(&gpu, &buffer, 12, |part| start.extend_from_slice(part)).unwrap();
        assert_eq!(start, found[..12]);
    }
}

#[test]
fn a_pipeline_cache_that_is_damaged_or_foreign_is_replaced() {
    let Some(gpu) = gpu() else { return };
    if !gpu.device.features().contains(wgpu::Features::PIPELINE_CACHE) {
        return; // this adapter offers none
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("not there yet");
    let open = || PipelineCache::open_in(&gpu.device, &folder).unwrap();
    open().keep();
    let file = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let sound = fs::read(&file).unwrap();
    open().keep();
    assert!(fs::read(&file).unwrap() == sound);
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 1;
    for damaged in [&flipped, &sound[..sound.len() - 1], b"", b"no cache at all"] {
        fs::write(&file, damaged).unwrap();
        open().keep();
        assert!(fs::read(&file).unwrap() == sound);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap(); // nothing can be read or put there
    open().keep();
    gpu.check().unwrap();
}
