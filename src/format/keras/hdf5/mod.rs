//! The part of [HDF5](https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html) that Keras writes through h5py:
//! groups, whole datasets of f32, attributes of text. Written here because files are not trusted: every read is held against the
//! file's bytes, every object is visited once, and the work done is bounded by the file's length. What Keras does not write
//! (chunks, compression, links to elsewhere, dense groups) is refused by name.

mod read;
mod write;

pub(super) use read::File;
pub(super) use write::Writer;

/// A file that is not read: what is wrong with it, in words that follow the file's name.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub(super) struct Error {
    reason: String,
    source: Option<std::str::Utf8Error>,
}

type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error that another caused, whose words `reason` does not repeat.
    fn because(reason: String, source: std::str::Utf8Error) -> Error {
        Error { reason, source: Some(source) }
    }

    /// The same with the path of the object in which it is.
    fn at(self, path: &str) -> Error {
        Error { reason: format!("{} (at {path})", self.reason), ..self }
    }
}

impl From<String> for Error {
    fn from(reason: String) -> Error {
        Error { reason, source: None }
    }
}

impl From<&str> for Error {
    fn from(reason: &str) -> Error {
        reason.to_string().into()
    }
}

/// The first bytes of every file.
pub(super) const SIGNATURE: [u8; 8] = *b"\x89HDF\r\n\x1a\n";
/// The undefined address.
const UNDEFINED: u64 = u64::MAX;

/// Types of messages in an object's header.
mod message {
    pub const DATASPACE: u16 = 0x01;
    pub const LINK_INFO: u16 = 0x02;
    pub const DATATYPE: u16 = 0x03;
    pub const LINK: u16 = 0x06;
    pub const EXTERNAL: u16 = 0x07;
    pub const LAYOUT: u16 = 0x08;
    pub const FILTERS: u16 = 0x0b;
    pub const ATTRIBUTE: u16 = 0x0c;
    pub const CONTINUATION: u16 = 0x10;
    pub const SYMBOL_TABLE: u16 = 0x11;
    pub const ATTRIBUTE_INFO: u16 = 0x15;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Vec<u8> {
        let mut writer = Writer::default();
        writer.group("layers/lstm/vars", Some("first"));
        writer.dataset("layers/lstm/cell/vars", "0", &[2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        writer.dataset("layers/lstm/cell/vars", "1", &[], vec![7.0]);
        writer.dataset("layers/lstm/cell/vars", "2", &[0, 4], vec![]);
        writer.finish()
    }

    /// Everything that is asked of a file; true if it says no.
    fn read(bytes: &[u8]) -> Result<usize> {
        let file = File::open(bytes)?;
        let mut numbers = 0;
        for (path, dataset) in file.datasets() {
            numbers += file.values(path, dataset)?.len();
        }
        file.text("layers/lstm/vars", "name")?;
        Ok(numbers)
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = small();
        let file = File::open(&bytes).unwrap();
        let all: Vec<_> = file.datasets().map(|(path, data)| (path.to_string(), data.shape.clone())).collect();
        let expected = [("0", vec![2, 3]), ("1", vec![]), ("2", vec![0, 4])];
        assert_eq!(all, expected.map(|(name, shape)| (format!("layers/lstm/cell/vars/{name}"), shape)));
        let values = |path: &str| file.values(path, file.dataset(path).unwrap()).unwrap();
        assert_eq!(values("layers/lstm/cell/vars/0"), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(file.text("layers/lstm/vars", "name").unwrap().as_deref(), Some("first"));
        assert_eq!(file.groups_in("layers").collect::<Vec<_>>(), ["lstm"]);
        assert!(file.has_group("") && !file.has_group("layers/gru"));
    }

    /// Every address, length, size and count of a file becomes what would do the most harm.
    #[test]
    fn every_number_may_be_wrong() {
        let good = small();
        let root = u64::from_le_bytes(good[64..72].try_into().unwrap());
        let mut said: Vec<String> = Vec::new();
        for at in (0..good.len() - 8).step_by(8) {
            let len = good.len() as u64;
            let own = at as u64;
            let old = u64::from_le_bytes(good[at..at + 8].try_into().unwrap());
            for value in [
                0,
                1,
                2,
                root,
                own,
                own - own % 16,
                old ^ 1 << 7,
                old ^ 1 << 32,
                len - 1,
                len,
                1 << 40,
                1 << 61,
                u64::MAX,
            ] {
                let mut bytes = good.clone();
                bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
                match read(&bytes) {
                    Ok(numbers) => assert!(numbers * 4 <= good.len(), "{numbers} numbers"),
                    Err(error) => said.push(error.to_string()),
                }
            }
        }
        for words in [
            "more than one link",
            "soft link",
            "past its end",
            "too large",
            "are stored",
            "cut off",
            "outside its heap",
            "object header of version",
        ] {
            assert!(said.iter().any(|why| why.contains(words)), "nothing said {words}");
        }
    }

    #[test]
    fn deep_groups_and_doubled_names_are_refused() {
        let mut writer = Writer::default();
        writer.group(&"a/".repeat(40), None);
        assert!(read(&writer.finish()).unwrap_err().to_string().contains("deep"));
        let mut writer = Writer::default();
        ["one", "two"].iter().for_each(|name| writer.group(name, None));
        let mut bytes = writer.finish();
        let at = bytes.windows(3).position(|name| name == b"two").unwrap();
        bytes[at..at + 3].copy_from_slice(b"one");
        assert!(read(&bytes).unwrap_err().to_string().contains("two objects named \"one\""));
    }

    #[test]
    fn files_that_are_cut_off_are_refused() {
        let good = small();
        // The last block is the root's header, so no byte can be missing.
        assert!((0..good.len()).all(|len| read(&good[..len]).is_err()));
    }
}
