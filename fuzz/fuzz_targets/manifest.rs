//! Fuzzes `manifest.json`, as it is and with its hash made right.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    use hadal::checkpoint::manifest::Manifest;
    if let Err(e) = Manifest::parse("manifest.json".as_ref(), bytes) {
        assert_eq!(e.exit_code(), 2);
    }
    let Ok(found) = serde_json::from_slice::<Manifest>(bytes) else { return };
    if let Ok(sealed) = Manifest::new(found.step, found.files).and_then(|manifest| manifest.text()) {
        let _ = Manifest::parse("manifest.json".as_ref(), sealed.as_bytes());
    }
});
