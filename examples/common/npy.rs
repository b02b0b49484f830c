//! Arrays of NumPy's files. What a header asks for is held against the bytes that are there before memory is.

use anyhow::{Context, Result, anyhow, ensure};
use ndarray::{Array, Dimension};
use ndarray_npy::npy::header::Header;
use ndarray_npy::{ReadNpyError, ReadNpyExt, ReadableElement};
use std::io::{Cursor, ErrorKind, Read};
use std::path::Path;
use zip::ZipArchive;

/// Bytes of the text of a header; NumPy reads no longer ones, either.
const LONGEST: usize = 10_000;
/// Brackets in brackets of a header; a type made of others has a few.
const DEEPEST: usize = 16;

/// The array in the bytes of an npy file.
pub fn array<T: ReadableElement, D: Dimension>(bytes: &[u8]) -> Result<Array<T, D>, ReadNpyError> {
    let (elements, start) = claimed(bytes)?;
    // An element has at least one byte.
    if elements > bytes.len() - start {
        return Err(ReadNpyError::MissingData);
    }
    if Vec::<T>::new().try_reserve_exact(elements).is_err() {
        return Err(ReadNpyError::Io(ErrorKind::OutOfMemory.into()));
    }
    Array::read_npy(bytes)
}

/// Elements that the header of an npy file asks for, and where they begin.
fn claimed(bytes: &[u8]) -> Result<(usize, usize), ReadNpyError> {
    let wrong = |text: &str| ReadNpyError::Io(std::io::Error::new(ErrorKind::InvalidData, text));
    // Magic (6 bytes), version (2), length of the text (2, from version 2 on 4)
    let length = match bytes {
        [_, _, _, _, _, _, 1, _, a, b, ..] => (10, usize::from(u16::from_le_bytes([*a, *b]))),
        [_, _, _, _, _, _, 2..=255, _, a, b, c, d, ..] => (12, u32::from_le_bytes([*a, *b, *c, *d]) as usize),
        _ => return Err(wrong("it is no npy file: it has no whole header")),
    };
    let (first, length) = length;
    let Some(text) = bytes.get(first..).and_then(|rest| rest.get(..length)) else {
        return Err(wrong("it is no npy file: it has no whole header"));
    };
    if length > LONGEST {
        return Err(wrong(&format!("its header has {length} bytes; up to {LONGEST} are read")));
    }
    let mut depth = 0usize;
    for byte in text {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return Err(wrong(&format!("its header has brackets more than {DEEPEST} deep")));
        }
    }
    let header = Header::from_reader(&mut &bytes[..])?;
    let elements = header.shape.iter().try_fold(1usize, |all, &size| all.checked_mul(size));
    Ok((elements.ok_or(ReadNpyError::LengthOverflow)?, first + length))
}

/// An npz file: a zip archive of npy files.
#[allow(dead_code)] // each example uses its own part
pub struct Archive {
    name: String,
    zip: ZipArchive<Cursor<Vec<u8>>>,
}

#[allow(dead_code)]
impl Archive {
    pub fn open(path: &Path) -> Result<Archive> {
        let name = format!("\"{}\"", path.display());
        let zip = ZipArchive::new(Cursor::new(wgpu_lstm::files::read(path)?));
        Ok(Archive { zip: zip.with_context(|| format!("{name} is no npz file"))?, name })
    }

    /// An array by its name. It is unpacked only if its header asks for what the archive says it has.
    pub fn array<T: ReadableElement, D: Dimension>(&mut self, name: &str) -> Result<Array<T, D>> {
        let place = format!("array \"{name}\" of {}", self.name);
        let mut packed = self.zip.by_name(&format!("{name}.npy")).with_context(|| place.clone())?;
        let size = packed.size();
        let mut bytes = Vec::new();
        packed.by_ref().take((LONGEST + 12) as u64).read_to_end(&mut bytes).with_context(|| place.clone())?;
        let (elements, start) = claimed(&bytes).with_context(|| place.clone())?;
        let room = size.saturating_sub(start as u64);
        // Types have up to 16 bytes, texts more, which are not read.
        ensure!(
            elements as u64 <= room && room <= 16 * (elements as u64).max(1),
            "{place} has {room} bytes for the {elements} elements of its header"
        );
        packed.take(room + 1).read_to_end(&mut bytes).with_context(|| place.clone())?;
        ensure!(bytes.len() as u64 == size, "{place} has {} bytes, its archive says {size}", bytes.len());
        array(&bytes).map_err(|error| anyhow!("{place}: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, Array2, Ix1, array as given};
    use ndarray_npy::WriteNpyExt;
    use std::io::Write;
    use zip::write::{SimpleFileOptions, ZipWriter};

    /// An npy file of version 2 with this text and no elements.
    fn forged(text: &str) -> Vec<u8> {
        [b"\x93NUMPY\x02\x00", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
    }

    fn shaped(shape: &str) -> Vec<u8> {
        forged(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape})}}\n"))
    }

    #[test]
    fn headers_that_ask_for_more_than_there_is_are_refused() {
        let says = |bytes: &[u8], words: &str| {
            let error = array::<f32, Ix1>(bytes).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        says(&shaped("1000000000000,"), "before reading all data");
        says(&shaped("4294967296, 4294967296"), "overflow");
        says(&forged(&"(".repeat(9000)), "more than 16 deep");
        says(&forged(&" ".repeat(20_000)), "up to 10000 are read");
        says(b"\x93NUMPY\x02\x00\xff\xff\xff\xffabc", "no whole header");
        says(b"\x93NUMPY", "no whole header");
        let mut bytes = Vec::new();
        given![1.0f32, 2.0].write_npy(&mut bytes).unwrap();
        assert_eq!(array::<f32, Ix1>(&bytes).unwrap(), given![1.0, 2.0]);
        assert!(matches!(array::<f64, Ix1>(&bytes), Err(ReadNpyError::WrongDescriptor(_))));
    }

    #[test]
    fn archives_are_unpacked_only_as_far_as_their_headers_say() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut zip = ZipWriter::new(file.reopen().unwrap());
        let mut entry = |name: &str, parts: &[&[u8]]| {
            zip.start_file(name, SimpleFileOptions::default()).unwrap();
            parts.iter().for_each(|part| zip.write_all(part).unwrap());
        };
        let mut good = Vec::new();
        given![[1i16, 2], [3, 4]].write_npy(&mut good).unwrap();
        entry("good.npy", &[&good]);
        // 64 MiB of zeros behind a header of three numbers, and one that asks for more than there is
        entry("bomb.npy", &[&shaped("3,"), &vec![0; 64 << 20]]);
        entry("forged.npy", &[&shaped("1000000000000,"), &[0; 64]]);
        zip.finish().unwrap();
        let mut archive = Archive::open(file.path()).unwrap();
        assert_eq!(archive.array::<i16, _>("good").unwrap(), given![[1i16, 2], [3, 4]]);
        let mut says = |name: &str, words: &str| {
            let error = archive.array::<f32, Ix1>(name).map(|all: Array1<f32>| all).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        says("bomb", "has 67108864 bytes for the 3 elements");
        says("forged", "has 64 bytes for the 1000000000000 elements");
        says("missing", "array \"missing\"");
        assert!(
            archive.array::<f32, _>("good").map(|all: Array2<f32>| all).unwrap_err().to_string().contains("descriptor")
        );
    }
}
