//! Files are replaced so that the older one stays whole: through links, beside a killed write, next to another write, without
//! space; what is no regular file is written to.
#![cfg(all(feature = "keras", feature = "onnx", feature = "pytorch"))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use wgpu_lstm::files::{check, replace, same};

/// Variable with the task of a child process, which is this test once more.
const TASK: &str = "WGPU_LSTM_TEST_TASK";
/// The file that it is to do it to.
const TARGET: &str = "WGPU_LSTM_TEST_TARGET";

/// This test's executable as a process that runs [`child`] alone.
fn process(task: &str, target: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(TASK, task).env(TARGET, target);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Runs the task of a child process; does nothing when the tests run.
#[test]
fn child() {
    let Ok(task) = std::env::var(TASK) else { return };
    let target = PathBuf::from(std::env::var_os(TARGET).unwrap());
    match task.as_str() {
        "write large files until it is killed" => loop {
            replace(&target, vec![b'n'; LARGE]).unwrap();
        },
        letter => {
            for _ in 0..40 {
                replace(&target, letter.repeat(SMALL)).unwrap();
            }
        }
    }
}

const LARGE: usize = 64 << 20;
const SMALL: usize = 300_000;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_is_made_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("model");
    check(&target).unwrap();
    assert!(names(folder.path()).is_empty(), "nothing is made");
    replace(&target, "old").unwrap();
    replace(&target, "new").unwrap();
    check(&target).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"new");
    assert_eq!(names(folder.path()), ["model"]);
    // The longest name that there is
    let long = folder.path().join("n".repeat(255));
    for content in ["old", "new"] {
        replace(&long, content).unwrap();
        assert_eq!(fs::read(&long).unwrap(), content.as_bytes());
    }
    assert_eq!(names(folder.path()), ["model".to_string(), "n".repeat(255)]);
}

#[test]
fn what_cannot_be_a_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("inner")).unwrap();
    let refused = |path: &Path, words: &str| {
        let error = replace(path, "text").unwrap_err().to_string().to_lowercase();
        assert!(error.contains("cannot write") && error.contains(words), "{error}");
        assert_eq!(check(path).unwrap_err().to_string().to_lowercase(), error);
    };
    refused(&folder.path().join("inner"), "folder");
    refused(&folder.path().join("inner/.."), "folder");
    refused(&folder.path().join("new/"), "folder");
    refused(Path::new("."), "folder");
    refused(Path::new(""), "name is empty");
    refused(&folder.path().join("missing/model"), "no such file");
    assert_eq!(names(folder.path()), ["inner"]);
}

#[cfg(unix)]
mod on_unix {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
    use wgpu_lstm::{Dense, Device, Lstm, Sequential};

    /// Root may write anywhere, and give files away.
    fn is_root() -> bool {
        fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
    }

    #[test]
    fn a_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let [inner, link, second] = ["inner", "link", "second"].map(|name| folder.path().join(name));
        fs::create_dir(&inner).unwrap();
        symlink("inner/model", &link).unwrap();
        symlink(&link, &second).unwrap();
        // The target does not exist at first.
        for content in ["old", "new"] {
            replace(&second, content).unwrap();
            assert_eq!(fs::read(inner.join("model")).unwrap(), content.as_bytes());
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert_eq!((names(folder.path()).len(), names(&inner)), (3, vec!["model".to_string()]));
        }
        let round = folder.path().join("round");
        symlink("round", &round).unwrap();
        assert!(replace(&round, "text").unwrap_err().to_string().contains("symbolic links"));
    }

    /// Everything that writes a whole file goes through the same function.
    #[test]
    fn every_writer_follows_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let model = Sequential::new(3).add(Lstm::keras(4)).add(Dense::keras(2)).build(&Device::cpu(), 0).unwrap();
        let layer = Lstm::new(4).build(&Device::cpu(), 3, 0).unwrap();
        type Write<'a> = &'a dyn Fn(&Path);
        let writes: [(&str, Write); 6] = [
            ("model.safetensors", &|path| model.save(path).unwrap()),
            ("pytorch.safetensors", &|path| model.save_pytorch(path).unwrap()),
            ("layer.safetensors", &|path| layer.save_pytorch(path).unwrap()),
            ("model.keras", &|path| wgpu_lstm::format::keras::save(&model, path).unwrap()),
            ("model.onnx", &|path| wgpu_lstm::format::onnx::save(&model, path).unwrap()),
            ("layer.onnx", &|path| wgpu_lstm::format::onnx::save_layer(&layer, path).unwrap()),
        ];
        for (name, write) in writes {
            let (target, link) = (folder.path().join(name), folder.path().join(format!("link to {name}")));
            symlink(name, &link).unwrap();
            write(&link);
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "{name}");
            assert!(fs::metadata(&target).unwrap().len() > 100, "{name}");
        }
        assert_eq!(names(folder.path()).len(), 12);
    }

    #[test]
    fn what_is_no_regular_file_is_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        replace(&pipe, "through the pipe").unwrap();
        assert_eq!(reader.join().unwrap(), b"through the pipe");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(replace(&socket, "text").is_err());
        assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
        assert_eq!(names(folder.path()), ["pipe", "socket"]);
        // Root could replace these.
        if !is_root() {
            replace("/dev/null", "text").unwrap();
            assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_open_file_is_written_to_through_its_descriptor() {
        use std::os::fd::AsRawFd;
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("output");
        fs::write(&target, "before, ").unwrap();
        let mut file = fs::File::open(&target).unwrap();
        for name in ["/proc/self/fd", "/dev/fd"] {
            replace(format!("{name}/{}", file.as_raw_fd()), "more, ").unwrap();
        }
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), names(folder.path()).len()), ("before, more, more, ", 1));
    }

    #[test]
    fn permissions_and_owner_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let [target, plain] = ["model", "plain"].map(|name| folder.path().join(name));
        replace(&target, "new").unwrap();
        fs::write(&plain, "new").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(&target), mode(&plain), "a new file is like any other");
        for given in [0o640, 0o600, 0o666, 0o755] {
            fs::set_permissions(&target, fs::Permissions::from_mode(given)).unwrap();
            replace(&target, "again").unwrap();
            assert_eq!(mode(&target), given);
        }
        fs::set_permissions(&target, fs::Permissions::from_mode(0o444)).unwrap();
        if is_root() {
            std::os::unix::fs::chown(&target, Some(1234), Some(4321)).unwrap();
            replace(&target, "owned").unwrap();
            let after = fs::metadata(&target).unwrap();
            assert_eq!((after.uid(), after.gid(), after.mode() & 0o777), (1234, 4321, 0o444));
        } else {
            assert!(replace(&target, "protected").unwrap_err().to_string().contains("denied"));
            assert_eq!(fs::read(&target).unwrap(), b"again");
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
            let error = replace(&plain, "in a protected folder").unwrap_err().to_string();
            assert!(error.contains("takes no file beside it"), "{error}");
            assert_eq!(fs::read(&plain).unwrap(), b"new");
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn a_file_is_the_same_by_whatever_name() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link, hard, other] = ["file", "link", "hard", "other"].map(|name| folder.path().join(name));
        fs::write(&file, "text").unwrap();
        fs::write(&other, "text").unwrap();
        symlink(&file, &link).unwrap();
        fs::hard_link(&file, &hard).unwrap();
        assert!(same(&file, &link) && same(&link, &hard) && same(folder.path().join("./file"), &file));
        assert!(!same(&file, &other) && !same(&file, folder.path().join("missing")));
    }

    /// A process is killed while it writes. The older file, or the one that it had written before, is whole; one temporary file
    /// is left, however often that happens; the next write takes it away.
    #[test]
    fn a_killed_write_leaves_one_file_that_the_next_takes_away() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model");
        replace(&target, "old").unwrap();
        let whole = || match fs::read(&target).unwrap() {
            content if content == b"old" => true,
            content => content.len() == LARGE && content.iter().all(|&byte| byte == b'n'),
        };
        let temporary = folder.path().join(".model.wgpu-lstm-tmp");
        let mut left = 0;
        for _ in 0..5 {
            let mut child = process("write large files until it is killed", &target).spawn().unwrap();
            while !fs::metadata(&temporary).is_ok_and(|metadata| metadata.len() > 0) {
                assert!(child.try_wait().unwrap().is_none(), "the child writes until it is killed");
            }
            child.kill().unwrap(); // SIGKILL
            child.wait().unwrap();
            assert!(whole());
            assert!(names(folder.path()).len() <= 2, "{:?}", names(folder.path()));
            left += names(folder.path()).len() - 1;
        }
        assert!(left > 0, "no write was killed in the middle");
        replace(&target, "new").unwrap();
        assert_eq!((fs::read(&target).unwrap(), names(folder.path())), (b"new".to_vec(), vec!["model".to_string()]));
    }

    /// Processes and threads write at the same time: every file that there is between is one that somebody wrote whole.
    #[test]
    fn writes_at_the_same_time_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model");
        replace(&target, "a".repeat(SMALL)).unwrap();
        let mut children: Vec<_> = ["b", "c"].map(|letter| process(letter, &target).spawn().unwrap()).into();
        std::thread::scope(|scope| {
            for letter in ["d", "e"] {
                let target = &target;
                scope.spawn(move || (0..40).for_each(|_| replace(target, letter.repeat(SMALL)).unwrap()));
            }
            for _ in 0..200 {
                let content = fs::read(&target).unwrap();
                assert!(content.len() == SMALL && content.iter().all(|byte| *byte == content[0]));
            }
        });
        assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
        assert_eq!(names(folder.path()), ["model"]);
    }

    #[test]
    fn a_temporary_name_that_is_taken_by_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let [target, other] = ["model", "other"].map(|name| folder.path().join(name));
        fs::write(&other, "of somebody else").unwrap();
        symlink(&other, folder.path().join(".model.wgpu-lstm-tmp")).unwrap();
        replace(&target, "new").unwrap();
        assert_eq!(
            (fs::read(&target).unwrap(), fs::read(&other).unwrap()),
            (b"new".to_vec(), b"of somebody else".to_vec())
        );
        assert_eq!(names(folder.path()), [".model.wgpu-lstm-tmp", "model", "other"]);
    }

    /// A limit on the size of files stands for a disk that is full.
    #[test]
    fn without_space_the_older_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model");
        replace(&target, "old").unwrap();
        let me = std::env::current_exe().unwrap();
        let output = Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$0\" --exact child --nocapture"])
            .arg(me)
            .env(TASK, "z")
            .env(TARGET, &target)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).to_string();
        assert!(!output.status.success() && said.to_lowercase().contains("file too large"), "{said}");
        assert_eq!((fs::read(&target).unwrap(), names(folder.path())), (b"old".to_vec(), vec!["model".to_string()]));
    }
}
