//! `.keras` files: a zip of metadata, configuration and weights.

use super::Result;
use std::io::{Cursor, Read, Write};
use zip::read::ZipArchive;
use zip::write::{SimpleFileOptions, ZipWriter};

const METADATA: &str = "metadata.json";
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.weights.h5";

/// Bytes of a configuration, which has about 2,000 a layer.
pub(super) const TEXT: usize = 2 << 20;
/// Bound of the ratio of unpacked weights to the size of the archive; trained weights hardly shrink at all.
const UNPACKED: u64 = 32;

/// The members of a `.keras` archive.
pub(super) struct Archive {
    pub metadata: String,
    pub config: String,
    pub weights: Vec<u8>,
}

/// True if bytes begin as a zip archive does.
pub(super) fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

impl Archive {
    pub fn read(bytes: &[u8]) -> Result<Archive> {
        let broken = |error: zip::result::ZipError| format!("is no whole zip archive: {error}");
        let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
        // Of several members of a name the library keeps one.
        let listed = listed(bytes).ok_or("is no whole zip archive: it has no list of its members")?;
        if listed != archive.len() {
            return Err(format!("has {listed} members, but only {} names: some are there twice", archive.len()));
        }
        let names: Vec<String> = archive.file_names().take(12).map(str::to_string).collect();
        let mut member = |name: &str, most: u64| {
            let mut member = archive.by_name(name).map_err(|error| {
                format!("is no whole Keras archive: {name}: {error}; it holds: {}", names.join(", "))
            })?;
            let mut all = Vec::new();
            let read = member.by_ref().take(most + 1).read_to_end(&mut all);
            read.map_err(|error| format!("has a member {name} that cannot be read: {error}"))?;
            if all.len() as u64 > most {
                return Err(format!("has a member {name} of more than {most} bytes, which is more than is unpacked"));
            }
            Ok(all)
        };
        let text = |name: &str, bytes: Vec<u8>| {
            String::from_utf8(bytes).map_err(|_| format!("has a member {name} that is no UTF-8"))
        };
        let most = UNPACKED * bytes.len() as u64 + (1 << 20);
        let metadata = text(METADATA, member(METADATA, most.min(TEXT as u64))?)?;
        let config = text(CONFIG, member(CONFIG, most.min(TEXT as u64))?)?;
        Ok(Archive { metadata, config, weights: member(WEIGHTS, most)? })
    }

    pub fn write(&self) -> Result<Vec<u8>> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let mut all = || -> zip::result::ZipResult<Vec<u8>> {
            // Plain, as Keras does; the oldest date, so that a model always makes the same file.
            let options = SimpleFileOptions::default()
                .compression_method(zip::CompressionMethod::Stored)
                .large_file(self.weights.len() as u64 >= u32::MAX.into());
            let members =
                [(METADATA, self.metadata.as_bytes()), (CONFIG, self.config.as_bytes()), (WEIGHTS, &self.weights[..])];
            for (name, bytes) in members {
                zip.start_file(name, options)?;
                zip.write_all(bytes)?;
            }
            Ok(Vec::new())
        };
        all().map_err(|error| format!("cannot be written: {error}"))?;
        let cursor = zip.finish().map_err(|error| format!("cannot be written: {error}"))?;
        Ok(cursor.into_inner())
    }
}

/// Members that the archive's end says it lists.
fn listed(bytes: &[u8]) -> Option<usize> {
    // The end is 22 bytes and a comment.
    let first = bytes.len().saturating_sub(22 + usize::from(u16::MAX));
    let end = bytes[first..].windows(4).rposition(|window| window == b"PK\x05\x06")? + first;
    let count = bytes.get(end + 10..end + 12)?;
    Some(u16::from_le_bytes([count[0], count[1]]).into())
}
