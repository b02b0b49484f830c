//! The part of [HDF5](https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html) that Keras writes through h5py:
//! groups, whole datasets of f32, attributes of text. Written here because files are not trusted: every read is held against the
//! file's bytes, every object is visited once, and the work done is bounded by the file's length. What Keras does not write
//! (chunks, compression, links to elsewhere, dense groups) is refused by name.

mod read;
mod write;

pub(super) use read::File;
pub(super) use write::Writer;

/// The first bytes of every file.
pub(super) const SIGNATURE: [u8; 8] = *b"\x89HDF\r\n\x1a\n";
/// The address of nothing.
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
