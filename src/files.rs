//! Files on disk: replacing one so that the older one stays whole, reading one within the memory that there is.
//!
//! Everything that this crate writes as a whole goes through [`replace`]; logs, which grow, do not.

use crate::error::{Error, Result};
use crate::memory;
use same_file::Handle;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Symbolic links that are followed one after another, as on Linux.
const MOST_LINKS: usize = 40;
/// End of the names of temporary files.
const SUFFIX: &str = ".wgpu-lstm-tmp";
/// Time for which a write waits for another one to the same file.
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes a file so that an older one of that name stays whole if anything fails, even if the process is killed.
///
/// - A symbolic link is followed: its target is replaced, or made where there is none.
/// - A regular file is replaced: the bytes go to a temporary file in the same folder, which is synchronised and renamed. The
///   older file's permissions are kept, on Unix its owner and group, too, as far as the process may set them; other hard links
///   to it keep the old content. A file that the process may not write to is not replaced.
/// - The temporary file is called `.NAME.wgpu-lstm-tmp` (`.` and a checksum instead of `.NAME` where that is too long). It is
///   removed on failure. One that a killed process left is removed by the next write to the same file. Two writes to a file at
///   the same time take turns; the last one stays.
/// - What is no regular file (a device, a pipe, or a process's open file under `/proc`) is opened and written to.
///
/// # Errors
/// [`Error::File`]: a path that names a folder; a folder that does not exist or takes no new file (nothing is written in place
/// then, since a failure would destroy the older file); no space left; another process that writes to the file for a minute.
///
/// ```
/// let path = std::env::temp_dir().join("wgpu-lstm-files-doc.txt");
/// wgpu_lstm::files::replace(&path, "epoch 1")?;
/// wgpu_lstm::files::replace(&path, "epoch 2")?;
/// assert_eq!(wgpu_lstm::files::read(&path)?, b"epoch 2");
/// # std::fs::remove_file(path).unwrap();
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
pub fn replace(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Result<()> {
    let (path, bytes) = (path.as_ref(), bytes.as_ref());
    let written = match Target::of(path) {
        Ok(Target::Regular { path, before }) => exchange(&path, before.as_ref(), bytes),
        // Appending does no harm to a device or a pipe, and keeps what an open file already has.
        Ok(Target::Other(path)) => {
            OpenOptions::new().append(true).open(path).and_then(|mut file| file.write_all(bytes))
        }
        Err(error) => Err(error),
    };
    written.map_err(Error::file("write", path))
}

/// Makes sure that [`replace`] could begin to write a file now; what is there stays as it is. For programs that work for long
/// before they write.
///
/// # Errors
/// As [`replace`].
///
/// ```
/// let error = wgpu_lstm::files::check("no such folder/scores.json").unwrap_err();
/// assert!(error.to_string().contains("cannot write"));
/// ```
pub fn check(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let checked = Target::of(path).and_then(|place| match place {
        Target::Regular { path, before } => Temporary::of(&path, before.as_ref()).map(drop),
        Target::Other(_) => Ok(()),
    });
    checked.map_err(Error::file("write", path))
}

/// True if two paths lead to the same file, by whatever names and links; false where one leads nowhere. For programs that
/// refuse to write over what they read.
///
/// ```
/// use wgpu_lstm::files::same;
/// assert!(same("Cargo.toml", "src/../Cargo.toml"));
/// assert!(!same("Cargo.toml", "src/lib.rs"));
/// ```
pub fn same(one: impl AsRef<Path>, other: impl AsRef<Path>) -> bool {
    same_file::is_same_file(one, other).unwrap_or(false)
}

/// Reads a whole file.
///
/// # Errors
/// [`Error::File`] where it cannot be read, [`Error::OutOfMemory`] where it is larger than the memory that can be had.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    memory::read(path.as_ref())
}

/// Target of a path.
enum Target {
    /// A regular file, or none yet.
    Regular { path: PathBuf, before: Option<Metadata> },
    /// Something else that takes bytes.
    Other(PathBuf),
}

impl Target {
    fn of(path: &Path) -> io::Result<Target> {
        let is_folder = || io::Error::new(ErrorKind::IsADirectory, "it is a folder");
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            let ends = path.as_os_str().as_encoded_bytes().last().copied();
            let Some(name) = path.file_name().filter(|_| ends.is_none_or(|end| !std::path::is_separator(end.into())))
            else {
                let empty = || io::Error::other("its name is empty");
                return Err(if path.as_os_str().is_empty() { empty() } else { is_folder() });
            };
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let folder = folder.canonicalize()?;
            let place = folder.join(name);
            let before = match std::fs::symlink_metadata(&place) {
                Ok(before) => before,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Ok(Target::Regular { path: place, before: None });
                }
                Err(error) => return Err(error),
            };
            if !before.is_symlink() {
                return match before {
                    before if before.is_dir() => Err(is_folder()),
                    before if before.is_file() => Ok(Target::Regular { path: place, before: Some(before) }),
                    _ => Ok(Target::Other(place)),
                };
            }
            // A link to an open file, as /dev/stdout leads to, is more than its text says.
            if cfg!(unix) && folder.starts_with("/proc") {
                return Ok(Target::Other(place));
            }
            path = folder.join(std::fs::read_link(&place)?);
        }
        Err(io::Error::other(format!("more than {MOST_LINKS} symbolic links lead from one to the next")))
    }
}

/// Writes a temporary file and renames it to `target`.
fn exchange(target: &Path, before: Option<&Metadata>, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = Temporary::of(target, before)?;
    temporary.file.write_all(bytes)?;
    if let Some(before) = before {
        keep(&temporary.file, before)?;
    }
    temporary.file.sync_all()?;
    std::fs::rename(&temporary.path, target)?;
    temporary.renamed = true;
    target.parent().map_or(Ok(()), sync_folder)
}

/// Gives a file the owner, the group and the permissions that another had.
#[cfg(unix)]
fn keep(file: &File, before: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    let now = file.metadata()?;
    let mut mode = before.mode() & 0o777;
    let owners = |metadata: &Metadata| (metadata.uid(), metadata.gid());
    if owners(&now) != owners(before)
        && fchown(file, Some(before.uid()), Some(before.gid())).is_err()
        && fchown(file, None, Some(before.gid())).is_err()
    {
        // What the old group was allowed is not for the new one.
        mode = mode & !0o070 | (mode & 0o007) << 3;
    }
    match now.mode() & 0o777 == mode {
        true => Ok(()),
        false => file.set_permissions(std::fs::Permissions::from_mode(mode)),
    }
}

/// Elsewhere the only permission is that to write, which the older file had.
#[cfg(not(unix))]
fn keep(_: &File, _: &Metadata) -> io::Result<()> {
    Ok(())
}

/// Makes a rename last through a loss of power, where the system can.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    // One that may not be listed cannot be opened; some file systems do not synchronise folders.
    let Ok(folder) = File::open(folder) else { return Ok(()) };
    match folder.sync_all() {
        Err(error) if !matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// A new file that this process has locked, removed again unless it is renamed.
struct Temporary {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // Nothing can be done here, and the next write tries again.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Temporary {
    /// The temporary file that is to become `target`.
    fn of(target: &Path, before: Option<&Metadata>) -> io::Result<Temporary> {
        // A folder may allow the exchange of a file that is protected.
        if before.is_some() {
            OpenOptions::new().write(true).open(target)?;
        }
        let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(io::Error::from(ErrorKind::InvalidInput));
        };
        let refused = |error| io::Error::other(format!("its folder takes no file beside it: {error}"));
        Temporary::beside(folder, name, before.is_some()).map_err(refused)
    }

    /// The temporary file of a name in a folder; `private` ones may be read by nobody else.
    fn beside(folder: &Path, name: &OsStr, private: bool) -> io::Result<Temporary> {
        let mut long = OsString::from(".");
        long.push(name);
        long.push(SUFFIX);
        match Temporary::lock(folder.join(long), private) {
            Err(error) if error.kind() == ErrorKind::InvalidFilename => {
                let short = format!(".{:08x}{SUFFIX}", crc32c::crc32c(name.as_encoded_bytes()));
                Temporary::lock(folder.join(short), private)
            }
            other => other,
        }
    }

    /// Makes and locks a file of this name. One that nobody has locked is what a killed process left, and is removed.
    fn lock(path: PathBuf, private: bool) -> io::Result<Temporary> {
        let start = Instant::now();
        loop {
            match make(&path, private) {
                Ok(file) => match file.try_lock() {
                    Ok(()) if leads_to(&path, &file) => return Ok(Temporary { path, file, renamed: false }),
                    // Another process took it for one that was left, before it was locked.
                    Ok(()) | Err(TryLockError::WouldBlock) => {}
                    Err(TryLockError::Error(_)) => {
                        std::fs::remove_file(&path)?;
                        return Temporary::without_lock(path, private);
                    }
                },
                Err(error) if error.kind() == ErrorKind::AlreadyExists => match left(&path)? {
                    Left::Removed => continue,
                    Left::InUse => {}
                    Left::Unknown => return Temporary::without_lock(path, private),
                },
                Err(error) => return Err(error),
            }
            if start.elapsed() > PATIENCE {
                let why = format!("another process has been writing to it for {} s", PATIENCE.as_secs());
                return Err(io::Error::other(why));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A file of a name of its own, where the usual one cannot be had: a file system without locks, or the name is taken by
    /// something else.
    fn without_lock(path: PathBuf, private: bool) -> io::Result<Temporary> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let folder = path.parent().unwrap_or(Path::new("."));
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!(".{}-{count}{SUFFIX}", std::process::id()));
            match make(&path, private) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(file) => return Ok(Temporary { path, file, renamed: false }),
            }
        }
    }
}

/// Makes a file that was not there.
fn make(path: &Path, private: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    if private {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = private;
    options.open(path)
}

/// Fate of a file that has the name of a temporary one.
enum Left {
    /// It is gone.
    Removed,
    /// Another write has locked it.
    InUse,
    /// It is no file of ours.
    Unknown,
}

fn left(path: &Path) -> io::Result<Left> {
    let gone = |error: &io::Error| error.kind() == ErrorKind::NotFound;
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Ok(Left::Unknown),
        Err(error) if gone(&error) => return Ok(Left::Removed),
        Err(error) => return Err(error),
    }
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if gone(&error) => return Ok(Left::Removed),
        Err(_) => return Ok(Left::Unknown),
    };
    match file.try_lock() {
        // Between opening and locking it may have been renamed, and another made.
        Ok(()) if !leads_to(path, &file) => Ok(Left::Removed),
        Ok(()) => std::fs::remove_file(path).map(|()| Left::Removed),
        Err(TryLockError::WouldBlock) => Ok(Left::InUse),
        Err(TryLockError::Error(_)) => Ok(Left::Unknown),
    }
}

/// True if a path leads to an open file.
fn leads_to(path: &Path, file: &File) -> bool {
    let open = file.try_clone().and_then(Handle::from_file);
    matches!((open, Handle::from_path(path)), (Ok(open), Ok(there)) if open == there)
}
