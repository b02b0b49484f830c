//! Formats of model files: which one a file has, and which one a name asks for.

use anyhow::{Result, anyhow, bail, ensure};
use std::path::Path;
use wgpu_lstm::format::{Reader, identify};

/// Formats of model files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// The crate's own: what `Model::save` writes, .safetensors
    Own,
    /// PyTorch: .safetensors; .pt, .pth and .ckpt are read, not written
    Pytorch,
    /// Keras: .keras; .h5 is read, not written
    Keras,
    /// ONNX: .onnx
    Onnx,
}

impl Format {
    /// The format of a file that is there. A name that promises another one is said on stderr.
    pub fn of(path: &Path) -> Result<Format> {
        let file_type = identify(path)?;
        let format = match file_type.reader() {
            Some(Reader::Own) => Format::Own,
            Some(Reader::PyTorch) => Format::Pytorch,
            Some(Reader::Keras) => Format::Keras,
            Some(Reader::Onnx) => Format::Onnx,
            // Types without a reader, and readers of later versions of the library
            _ => {
                let foreign = if file_type.is_foreign_model() { ", which is not read here" } else { "" };
                bail!("\"{}\" is {file_type}{foreign}: {}", path.display(), file_type.advice())
            }
        };
        if !file_type.fits_name(path) {
            crate::common::note!(
                "note: \"{}\" is {file_type}, whatever its name says, and is read as that",
                path.display()
            );
        }
        Ok(format)
    }

    /// The format to write to a name, `asked` for or told from it. Only what a format writes may be a target, and a name must not
    /// promise another.
    #[allow(dead_code)] // each example uses its own part
    pub fn target(path: &Path, asked: Option<Format>) -> Result<Format> {
        let name = path.display();
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let written = match (&extension[..], asked) {
            ("safetensors", Some(Format::Pytorch)) => Format::Pytorch,
            ("safetensors", Some(Format::Own)) => Format::Own,
            ("safetensors", None) => bail!(
                "\"{name}\" can be a model of this crate, with its architecture, or weights for PyTorch; say --to own or --to pytorch"
            ),
            ("safetensors", _) => Format::Own,
            // Keras looks for these very letters.
            ("keras", _) => {
                ensure!(name.to_string().ends_with(".keras"), "\"{name}\": Keras reads no such name; write it .keras");
                Format::Keras
            }
            ("onnx", _) => Format::Onnx,
            ("h5" | "hdf5", _) => bail!(
                "\"{name}\": Keras's older format is read, not written; give a name that ends in .keras, which Keras can save as .h5 \
                 in turn"
            ),
            ("pt" | "pth" | "ckpt" | "bin", _) => bail!(
                "\"{name}\": PyTorch's pickles are read, not written; give a name that ends in .safetensors, with --to pytorch: \
                 safetensors.torch.load_file reads it for load_state_dict"
            ),
            _ => bail!(
                "\"{name}\" has no ending of a format that is written: .safetensors (with --to own or --to pytorch), .keras or .onnx"
            ),
        };
        match asked {
            Some(asked) if asked != written => bail!(
                "\"{name}\" does not fit --to {}: its name says {}, such a file is named {}",
                asked.name(),
                if extension == "safetensors" { "own or pytorch" } else { written.name() },
                asked.ending()
            ),
            _ => Ok(written),
        }
    }

    /// As options name it.
    fn name(self) -> &'static str {
        match self {
            Format::Own => "own",
            Format::Pytorch => "pytorch",
            Format::Keras => "keras",
            Format::Onnx => "onnx",
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Format::Own | Format::Pytorch => ".safetensors",
            Format::Keras => ".keras",
            Format::Onnx => ".onnx",
        }
    }
}

/// Adds the file's name to an error that does not name it.
pub fn naming<T, E: Into<anyhow::Error>>(path: &Path, result: std::result::Result<T, E>) -> Result<T> {
    result.map_err(|error| {
        let error = error.into();
        let name = path.display().to_string();
        match format!("{error:#}").contains(&name) {
            true => error,
            false => anyhow!("\"{name}\": {error:#}"),
        }
    })
}
