//! Timelines: when the host handed over submissions, and when the device ran them.

use super::context::Context;
use super::guard::Guarded;
use crate::error::Result;
use crate::lock::lock;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A submission of a plan's commands. Times count from the beginning of the timeline, those of the device laid so that the submission that
/// it took up fastest began when the host began to submit it.
///
/// ```
/// use std::time::Duration;
/// use wgpu_lstm::Submission;
/// let at = Duration::from_micros;
/// let first = Submission { dispatches: 5, begun: at(0), recorded: at(8), submitted: at(10), started: at(8), ended: at(40) };
/// let next = Submission { dispatches: 5, begun: at(20), recorded: at(30), submitted: at(32), started: at(40), ended: at(70) };
/// assert_eq!(next.ahead_of(&first), Some(at(10))); // the device found it ready
/// assert_eq!(next.idle_after(&first), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Submission {
    /// Kernel calls.
    pub dispatches: usize,
    /// The host began to record it.
    pub begun: Duration,
    /// The host had recorded it, and began to submit it.
    pub recorded: Duration,
    /// The driver had taken it. Software adapters run what came before in the meantime.
    pub submitted: Duration,
    /// The device began to run it.
    pub started: Duration,
    /// The device had run it.
    pub ended: Duration,
}

impl Submission {
    /// Time for which the device had nothing of a plan to run between the submission before and this one. Copies of results that are
    /// submitted alone count as nothing.
    pub fn idle_after(&self, before: &Submission) -> Duration {
        self.started.saturating_sub(before.ended)
    }

    /// Time from the moment at which the host had recorded it to the end of the one before; `None` if the device had already ended that.
    pub fn ahead_of(&self, before: &Submission) -> Option<Duration> {
        before.ended.checked_sub(self.recorded)
    }
}

/// A timeline that goes on.
#[derive(Debug)]
pub(super) struct Recording {
    begun: Instant,
    /// Two timestamps a submission.
    queries: Arc<Guarded<wgpu::QuerySet>>,
    most: u32,
    noted: Mutex<Vec<Noted>>,
}

/// A submission as the host knows it.
#[derive(Clone, Copy, Debug, Default)]
struct Noted {
    dispatches: usize,
    begun: Duration,
    recorded: Duration,
    submitted: Duration,
}

/// The place of a submission in a timeline.
pub(super) struct Slot {
    recording: Arc<Recording>,
    index: u32,
    begun: Instant,
}

impl Slot {
    /// The set of timestamps, and the one at the beginning; that at the end comes next.
    pub fn queries(&self) -> (&wgpu::QuerySet, u32) {
        (&self.recording.queries, 2 * self.index)
    }

    /// Notes that so many dispatches were recorded by this moment, and submitted now.
    pub fn submitted(self, dispatches: usize, recorded: Instant) {
        let since = |moment: Instant| moment.saturating_duration_since(self.recording.begun);
        let noted = Noted {
            dispatches,
            begun: since(self.begun),
            recorded: since(recorded),
            submitted: self.recording.begun.elapsed(),
        };
        lock(&self.recording.noted)[self.index as usize] = noted;
    }
}

impl Context {
    /// Begins a timeline of at most so many submissions; false on devices without timestamps.
    pub fn begin_timeline(&self, most: usize) -> Result<bool> {
        if !self.timestamps {
            return Ok(false);
        }
        // A set of timestamps holds 4,096.
        let most = most.clamp(1, 2048) as u32;
        let queries = self.timestamp_set(2 * most)?;
        let (queries, noted) = (Arc::new(queries), Mutex::default());
        *lock(&self.timeline) = Some(Arc::new(Recording { begun: Instant::now(), queries, most, noted }));
        Ok(true)
    }

    /// The place of a submission that is about to be recorded, where a timeline goes on and has room.
    pub(super) fn timeline_slot(&self) -> Option<Slot> {
        let recording = lock(&self.timeline).clone()?;
        let index = {
            let mut noted = lock(&recording.noted);
            noted.push(Noted::default());
            noted.len() as u32 - 1
        };
        (index < recording.most).then(|| Slot { recording, index, begun: Instant::now() })
    }

    /// Ends the timeline, after everything that was submitted.
    pub async fn end_timeline(&self) -> Result<Vec<Submission>> {
        let Some(recording) = lock(&self.timeline).take() else { return Ok(Vec::new()) };
        let mut noted = lock(&recording.noted).clone();
        noted.truncate(recording.most as usize);
        let count = 2 * noted.len() as u32;
        if count == 0 {
            return Ok(Vec::new());
        }
        let (ticks, period) = self.ticks(&recording.queries, count).await?;
        let first = ticks[0];
        // Nanoseconds of the device after its first timestamp.
        let device = |tick: u64| (tick.wrapping_sub(first) as i64 as f64 * period) as i64;
        let ahead = |(noted, pair): (&Noted, &[u64])| noted.recorded.as_nanos() as i64 - device(pair[0]);
        let offset = noted.iter().zip(ticks.chunks_exact(2)).map(ahead).max().unwrap_or(0);
        let time = |tick: u64| Duration::from_nanos((device(tick) + offset).max(0) as u64);
        let all = noted.iter().zip(ticks.chunks_exact(2)).map(|(noted, pair)| Submission {
            dispatches: noted.dispatches,
            begun: noted.begun,
            recorded: noted.recorded,
            submitted: noted.submitted,
            started: time(pair[0]),
            ended: time(pair[1]),
        });
        Ok(all.collect())
    }
}
