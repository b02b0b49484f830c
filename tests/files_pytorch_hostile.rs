//! Files of PyTorch that are cut off, damaged or made to harm: an error or the same tensors, no panic, and bounded memory.
#![cfg(feature = "pytorch")]

use proptest::prelude::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::path::PathBuf;
use wgpu_lstm::format::pytorch::Weights;

/// Counts what each thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that ends has no counters any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// Sound: everything is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Reads a file, and everything in it that can be read; what went wrong as text. Memory stays below what the documentation
/// says: the file's bytes, four times as many in tensors (twice here, where they are copied), and 256 bytes for each of a pickle.
fn read(bytes: &[u8]) -> Result<Vec<(String, Vec<f32>)>, String> {
    let before = HELD.get();
    PEAK.set(before);
    let limit = 64 * 1024 + (1 + 2 * 4 + 256) * bytes.len() as isize;
    let whole = || {
        let weights = Weights::from_bytes("hostile", bytes.to_vec()).map_err(|error| error.to_string())?;
        for prefix in weights.prefixes() {
            let _ = weights.recurrent(Some(prefix));
        }
        let mut all = Vec::new();
        for tensor in weights.tensors().filter(|tensor| tensor.supported) {
            let values = weights.tensor(tensor.name).map_err(|error| error.to_string())?;
            all.push((tensor.name.to_string(), values.iter().copied().collect::<Vec<_>>()));
        }
        Ok(all)
    };
    let result = whole();
    let peak = PEAK.get() - before;
    assert!(peak <= limit, "{peak} bytes were held for a file of {}, the limit is {limit}", bytes.len());
    result
}

#[track_caller]
fn refused(bytes: &[u8], part: &str) {
    let error = read(bytes).expect_err(&format!("an error that says \"{part}\" was expected"));
    assert!(error.contains(part), "\"{part}\" is missing in: {error}");
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap()
}

const FILES: [&str; 8] = [
    "file_pytorch_state_dict.pt",
    "file_pytorch_state_dict_protocol5.pt",
    "file_pytorch_state_dict_legacy.pth",
    "file_pytorch_module.pt",
    "file_pytorch_module_legacy.pt",
    "file_pytorch_checkpoint.ckpt",
    "file_pytorch_numbers.pt",
    "file_pytorch_state_dict.safetensors",
];

#[test]
fn files_that_are_cut_off_are_refused() {
    for name in FILES {
        let bytes = fixture(name);
        assert!(read(&bytes).is_ok(), "{name}");
        let ends = (0..bytes.len()).step_by(37).chain(bytes.len().saturating_sub(40)..bytes.len());
        for end in ends {
            assert!(read(&bytes[..end]).is_err(), "{name} up to byte {end} of {}", bytes.len());
        }
    }
}

/// Of archives, every flipped bit in a pickle or storage is found by its checksum. The other formats have none: there a flip may
/// change a number or a name.
#[test]
fn flipped_bits_are_found_or_do_no_harm() {
    for name in FILES {
        let bytes = fixture(name);
        let whole = read(&bytes).unwrap();
        for at in (0..bytes.len()).step_by(13) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            if let Ok(tensors) = read(&flipped)
                && bytes.starts_with(b"PK")
            {
                assert_eq!(tensors, whole, "{name}: byte {at}");
            }
        }
    }
}

fn storage(key: &str, class: &str, count: i32) -> Vec<u8> {
    // ("storage", class, key, "cpu", count), then BINPERSID
    [&b"("[..], &text("storage"), format!("ctorch\n{class}\n").as_bytes(), &text(key), &text("cpu"), &int(count), b"tQ"]
        .concat()
}

fn text(text: &str) -> Vec<u8> {
    [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

fn int(value: i32) -> Vec<u8> {
    [&b"J"[..], &value.to_le_bytes()].concat()
}

fn tuple(values: &[i64]) -> Vec<u8> {
    let long = |value: &i64| [&b"\x8a\x08"[..], &value.to_le_bytes()].concat();
    [&b"("[..], &values.iter().flat_map(long).collect::<Vec<_>>(), b"t"].concat()
}

fn tensor(storage: &[u8], offset: i32, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    [&b"ctorch._utils\n_rebuild_tensor_v2\n("[..], storage, &int(offset), &tuple(shape), &tuple(strides), b"\x89}tR"]
        .concat()
}

fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries = entries.iter().flat_map(|(name, value)| [text(name), value.clone()].concat());
    [&b"}("[..], &entries.collect::<Vec<_>>(), b"u"].concat()
}

/// An archive as torch.save writes it, around a pickle and storages.
fn archive(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut entry = |name: String, data: &[u8]| {
        writer.start_file(name, stored).unwrap();
        writer.write_all(data).unwrap();
    };
    entry("a/data.pkl".into(), &[b"\x80\x02", pickle, b"."].concat());
    for (key, data) in storages {
        entry(format!("a/data/{key}"), data);
    }
    writer.finish().unwrap().into_inner()
}

fn state(pickle: &[u8]) -> Vec<u8> {
    archive(pickle, &[("0", &[0; 64])])
}

fn own(offset: i32, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    state(&dict(&[("w", tensor(&storage("0", "FloatStorage", 16), offset, shape, strides))]))
}

#[test]
fn shapes_must_fit_their_storages() {
    assert_eq!(read(&own(0, &[4, 4], &[4, 1])).unwrap()[0].1.len(), 16);
    assert_eq!(read(&own(1, &[3, 5], &[1, 3])).unwrap()[0].1.len(), 15);
    assert_eq!(read(&own(0, &[1, 4], &[i64::MAX, 1])).unwrap()[0].1.len(), 4);
    for (bytes, part) in [
        (own(0, &[4, 5], &[5, 1]), "16 numbers"),
        (own(1, &[4, 4], &[4, 1]), "offset 1"),
        (own(0, &[4, 4], &[5, 1]), "strides [5, 1]"),
        (own(0, &[1 << 30], &[0]), "expanded"),
        (own(0, &[1 << 40, 1 << 40], &[1, 1]), "too large"),
        (own(0, &[i64::MAX, 2], &[0, 0]), "expanded"),
        (own(0, &[i64::MAX, i64::MAX], &[0, 0]), "too large"),
        (own(0, &[0, i64::MAX, i64::MAX], &[1, 1, 1]), ""),
        (own(0, &[2, 2], &[i64::MAX, 1]), "strides"),
        (own(0, &[-1, 4], &[4, 1]), "no sizes"),
        (own(0, &[4, 4], &[4, -1]), "no sizes"),
        (own(0, &[4, 4], &[4]), "strides [4]"),
        (own(-1, &[4, 4], &[4, 1]), "no sizes"),
        (own(0, &[1; 17], &[1; 17]), "16 axes"),
    ] {
        match read(&bytes) {
            // No elements, so nothing is wrong with it
            Ok(tensors) if part.is_empty() => assert!(tensors.iter().all(|(_, values)| values.is_empty())),
            Ok(tensors) => panic!("{part}: {tensors:?}"),
            Err(error) => assert!(error.contains(part) && error.contains("tensor w"), "{part}: {error}"),
        }
    }
    let storages = |storage: Vec<u8>| state(&dict(&[("w", tensor(&storage, 0, &[2], &[1]))]));
    refused(&storages(storage("9", "FloatStorage", 16)), "\"9\"");
    refused(&storages(storage("0", "StrangeStorage", 16)), "StrangeStorage");
    refused(&storages(int(3)), "without a storage");
}

/// Computations of many names, long names and names that could go on for ever.
#[test]
fn computed_parameters_are_bounded() {
    let weight = tensor(&storage("0", "FloatStorage", 16), 0, &[4], &[1]);
    let long = format!("weight{}", "_raw".repeat(200));
    let names: Vec<String> = (0..40).map(|k| format!("m{k}.{long}")).collect();
    let deep: Vec<String> = (0..60).map(|k| format!("{}weight_raw", "a.".repeat(k))).collect();
    let mut wide: Vec<String> = (0..60).map(|k| format!("b{k}.weight")).collect();
    wide.push("weight_raw".into());
    for names in [names, deep, wide] {
        let entries: Vec<(&str, Vec<u8>)> = names.iter().map(|name| (name.as_str(), weight.clone())).collect();
        let size = vec![0; 4 * 4 * names.len()];
        let _ = read(&archive(&dict(&entries), &[("0", &size)]));
    }
}

#[test]
fn many_tensors_of_one_storage_are_refused() {
    let whole = tensor(&storage("0", "FloatStorage", 4096), 0, &[4096], &[1]);
    let names: Vec<String> = (0..20).map(|k| format!("w{k}")).collect();
    // The first is put into the memo, the others are the same.
    let entries: Vec<(&str, Vec<u8>)> = (names.iter().enumerate())
        .map(|(k, name)| (name.as_str(), if k == 0 { [&whole[..], b"q\x01"].concat() } else { b"h\x01".to_vec() }))
        .collect();
    let file = |count: usize| archive(&dict(&entries[..count]), &[("0", &[0; 16384])]);
    assert_eq!(read(&file(2)).unwrap().len(), 2); // tied weights
    refused(&file(20), "share a storage");
}

#[test]
fn pickles_that_want_to_run_something_run_nothing() {
    let marker = std::env::temp_dir().join("wgpu-lstm-was-run");
    let _ = std::fs::remove_file(&marker);
    let command = text(&format!("touch {}", marker.display()));
    let call = [&b"cposix\nsystem\n"[..], &command, b"\x85R"].concat();
    refused(&state(&call), "holds no tensors; it holds a posix.system");
    let weight = tensor(&storage("0", "FloatStorage", 16), 0, &[4], &[1]);
    // Beside tensors it is a value like others, which is no tensor.
    let both = read(&state(&dict(&[("w", weight), ("run", call)]))).unwrap();
    assert!(both.len() == 1 && both[0].0 == "w");
    assert!(!marker.exists());
}

#[test]
fn structures_without_end_are_refused() {
    // A dict that holds itself, by the memo
    refused(&state(&[b"}q\x00", &text("a")[..], b"h\x00s"].concat()), "more than its pickle has bytes for");
    // Deep ones
    let deep: Vec<u8> = std::iter::repeat_n([&b"}"[..], &text("a")].concat(), 5000).flatten().collect();
    refused(&state(&[deep, b"N".to_vec(), vec![b's'; 5000]].concat()), "deeper than 64");
    // Each dict holds the one before twice
    let mut laughs = tensor(&storage("0", "FloatStorage", 16), 0, &[4], &[1]);
    laughs.extend(b"q\x00");
    for level in 0..40u8 {
        let entries =
            [&b"}("[..], &text("a"), &[b'h', level], &text("b"), &[b'h', level], b"uq", &[level + 1]].concat();
        laughs.extend(entries);
    }
    refused(&state(&laughs), "more than its pickle has bytes for");
    // One long name in many dicts
    let long = "n".repeat(900);
    refused(&state(&dict(&[(&long, dict(&[(&long, b"N".to_vec())]))])), "longer than 1024 bytes");
    refused(&state(&vec![b'('; 100_000]), "fewer values");
}

#[test]
fn names_and_entries_come_once() {
    let weight = tensor(&storage("0", "FloatStorage", 16), 0, &[4], &[1]);
    refused(&state(&dict(&[("w", weight.clone()), ("w", weight.clone())])), "tensor w twice");
    // A name with a dot and a dict
    let dotted = dict(&[("a.w", weight.clone()), ("a", dict(&[("w", weight.clone())]))]);
    refused(&state(&dotted), "tensor a.w twice");
    // An archive with an entry twice: the writer refuses that, so a name of the same length is changed.
    let mut twice = archive(&dict(&[("w", weight.clone())]), &[("0", &[0; 64]), ("1", &[1; 64])]);
    for at in 0..twice.len() - 8 {
        if &twice[at..at + 8] == b"a/data/1" {
            twice[at + 7] = b'0';
        }
    }
    refused(&twice, "3 entries of 2 different names");
    // Two pickles
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in ["a/data.pkl", "b/data.pkl"] {
        writer.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
    }
    refused(&writer.finish().unwrap().into_inner(), "2 entries data.pkl");
}

#[test]
fn packed_archives_are_refused_unopened() {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let packed = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    writer.start_file("a/data.pkl", packed).unwrap();
    writer.write_all(&vec![b'N'; 8 << 20]).unwrap();
    let bytes = writer.finish().unwrap().into_inner();
    assert!(bytes.len() < 100_000);
    refused(&bytes, "compressed");
}

#[test]
fn other_files_are_named() {
    refused(b"", "no file of PyTorch");
    refused(b"\x89HDF\r\n\x1a\n", "HDF5");
    refused(b"\x80\x02}.", "torch.save did not write");
    refused(b"{\"weight_map\": {}}", "JSON");
    for (entries, part) in [
        (&["a/archive_format", "a/models/model.json"][..], "torch.export"),
        (&["serialized_exported_program.json", "version"], "torch.export"),
        (&["a/.data/extern_modules", "a/m/data.pkl"], "torch.package"),
        (&["config.json", "model.weights.h5"], "Keras"),
        (&["output.npy"], "NumPy"),
    ] {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for name in entries {
            writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        }
        refused(&writer.finish().unwrap().into_inner(), part);
    }
    let mut tar = vec![0; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    refused(&tar, "tar archive");
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in ["a/data.pkl", "a/constants.pkl"] {
        writer.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
    }
    refused(&writer.finish().unwrap().into_inner(), "TorchScript");
    let mut header = (1u64 << 60).to_le_bytes().to_vec();
    header.extend(b"{}");
    refused(&header, "safetensors");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_do_no_harm(file in 0..FILES.len(), places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let mut bytes = fixture(FILES[file]);
        for (place, byte) in places {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = read(&bytes);
    }

    // Checksums hide pickles from flips: here the pickle itself is damaged and packed anew.
    #[test]
    fn damaged_pickles_do_no_harm(places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let pair = |k: i32| tensor(&storage("0", "FloatStorage", 16), k, &[4, 2], &[2, 1]);
        let mut pickle = dict(&[("lstm.weight_ih_l0", pair(0)), ("lstm.weight_hh_l0", pair(8)), ("inner", dict(&[("x", pair(1))]))]);
        for (place, byte) in places {
            let at = place.index(pickle.len());
            pickle[at] = byte;
        }
        let _ = read(&state(&pickle));
    }

    #[test]
    fn instructions_in_any_order_do_no_harm(codes in prop::collection::vec(prop::sample::select(&b"}(]),.NKJXhqrjaesutRQb0\x81\x85\x86\x87\x88\x89\x90\x93\x94c"[..]), 0..300)) {
        let _ = read(&state(&codes));
    }
}
