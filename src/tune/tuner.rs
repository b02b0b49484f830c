//! A device's choices: those that it was given, measured, or kept from earlier.

use super::file::{File, Subject};
use super::report::PassTuning;
use crate::error::Result;
use crate::gpu::{Adapter, GpuOptions, Tuning};
use crate::lock::lock;
use crate::plan::{Capabilities, Choices, Tunable};
#[cfg(not(target_arch = "wasm32"))]
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// Time for measuring a pass unless the options say otherwise.
const BUDGET: Duration = Duration::from_secs(2);

/// A device's choices.
#[derive(Debug)]
pub(crate) struct Tuner {
    tuning: Tuning,
    /// Time for measuring a pass.
    pub(super) budget: Duration,
    subject: Subject,
    /// The file that keeps choices, if there is a place for it.
    #[cfg(not(target_arch = "wasm32"))]
    path: Option<PathBuf>,
    state: Mutex<State>,
    /// Held by who measures: others would take the device's time.
    pub(super) measuring: futures_intrusive::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    passes: Vec<PassTuning>,
    /// The same, for plans.
    choices: Choices,
    /// True if the file was looked into.
    loaded: bool,
}

impl Tuner {
    /// The choices of a device that was just opened.
    ///
    /// # Errors
    /// A file that the options name and that cannot be read or holds something else.
    pub fn new(options: &GpuOptions, adapter: &Adapter, capabilities: &Capabilities) -> Result<Tuner> {
        let subject = Subject::new(adapter, capabilities);
        let tuner = Tuner {
            tuning: options.tuning.clone(),
            budget: options.tuning_budget.unwrap_or(BUDGET),
            #[cfg(not(target_arch = "wasm32"))]
            path: folder(options).map(|folder| folder.join(subject.file_name())),
            subject,
            state: Mutex::default(),
            measuring: futures_intrusive::sync::Mutex::new((), true),
        };
        if let Tuning::File(path) = &options.tuning {
            let file = File::read(path)?;
            if file.subject != tuner.subject {
                log::warn!(
                    "{}: choices for {}, used on {}: as right, but perhaps slow",
                    path.display(),
                    file.subject,
                    tuner.subject
                );
            }
            let mut state = lock(&tuner.state);
            for pass in file.passes {
                match pass.pass.candidates(capabilities).contains(&pass.choice) {
                    true => state.add(pass),
                    false => log::warn!("{}: this device cannot run \"{pass}\"; left out", path.display()),
                }
            }
        }
        Ok(tuner)
    }

    /// True if passes are measured before they are planned.
    pub fn measures(&self) -> bool {
        self.tuning == Tuning::Measure
    }

    /// The choices that plans follow.
    pub fn choices(&self) -> Choices {
        lock(&self.state).choices.clone()
    }

    /// The known tuning of a pass.
    pub(super) fn find(&self, pass: &Tunable) -> Option<PassTuning> {
        lock(&self.state).passes.iter().find(|known| known.pass == *pass).cloned()
    }

    /// Adds the choices of earlier processes, once.
    pub(super) fn load(&self, capabilities: &Capabilities) {
        let mut state = lock(&self.state);
        if std::mem::replace(&mut state.loaded, true) {
            return;
        }
        #[cfg(not(target_arch = "wasm32"))]
        for pass in self.path.as_deref().map_or_else(Vec::new, |path| kept(path, &self.subject)) {
            // A file that the user named has precedence.
            let known = state.passes.iter().any(|known| known.pass == pass.pass);
            if !known && pass.pass.candidates(capabilities).contains(&pass.choice) {
                state.add(pass);
            }
        }
    }

    /// Keeps the choice for a pass.
    pub(super) fn add(&self, pass: PassTuning) {
        lock(&self.state).add(pass);
    }

    /// Writes all choices to the file that keeps them, with those that other processes have added.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) async fn save(&self) {
        let (Some(path), subject) = (self.path.clone(), self.subject.clone()) else { return };
        let mut passes = lock(&self.state).passes.clone();
        let write = move || {
            let others = if path.exists() { kept(&path, &subject) } else { Vec::new() };
            passes.extend(
                others.into_iter().filter(|other| !passes.iter().any(|own| own.pass == other.pass)).collect::<Vec<_>>(),
            );
            if let Some(folder) = path.parent()
                && let Err(error) = std::fs::create_dir_all(folder)
            {
                log::warn!("choices are not kept: {} cannot be made: {error}", folder.display());
                return;
            }
            match File::new(&subject, passes).write(&path) {
                Ok(()) => log::debug!("choices are kept in {}", path.display()),
                Err(error) => log::warn!("choices are not kept: {error}"),
            }
        };
        crate::wait::blocking(write).await;
    }

    #[cfg(target_arch = "wasm32")]
    pub(super) async fn save(&self) {}

    /// Writes all choices to a file.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn save_to(&self, path: &Path) -> Result<()> {
        let passes = lock(&self.state).passes.clone();
        File::new(&self.subject, passes).write(path)
    }
}

impl State {
    fn add(&mut self, pass: PassTuning) {
        self.choices = self.choices.with(pass.pass, pass.choice);
        self.passes.retain(|known| known.pass != pass.pass);
        self.passes.push(pass);
    }
}

/// The folder of files that keep choices.
#[cfg(not(target_arch = "wasm32"))]
fn folder(options: &GpuOptions) -> Option<PathBuf> {
    let own = || Some(directories::ProjectDirs::from("", "", "wgpu-lstm")?.cache_dir().join("tuning"));
    options.tuning_folder.clone().or_else(own)
}

/// The choices of a file that this crate wrote earlier; none, and a line in the log, if it is broken or of another device.
#[cfg(not(target_arch = "wasm32"))]
fn kept(path: &Path, subject: &Subject) -> Vec<PassTuning> {
    use crate::error::Error;
    match File::read(path) {
        Ok(file) if file.subject == *subject => file.passes,
        Ok(file) => {
            log::warn!("{} has choices for {}; left out", path.display(), file.subject);
            Vec::new()
        }
        Err(Error::File { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            log::warn!("choices of earlier are left out: {error}");
            Vec::new()
        }
    }
}
