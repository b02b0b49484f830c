//! Staging buffers: memory that the host sees, through which numbers go to the device and come back. They are kept from use to
//! use, because the pages of a new one cost more than the copy through it.

use super::context::{Context, GpuBuffer};
use super::guard::Guarded;
use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Bytes of a buffer that several small writes share.
const PAGE: u64 = 1 << 16;
/// Uses of a pool after which a buffer that no use needed is given up.
const IDLE: u64 = 256;
/// Every write begins at a multiple of this, as mapped ranges must.
const ALIGNMENT: u64 = 16;

/// State of a kept buffer: still read by the device.
const IN_FLIGHT: u8 = 0;
/// Ready for the next use.
const READY: u8 = 1;
/// Could not be mapped again.
const LOST: u8 = 2;

/// Buffers of one usage, kept until no use needs them any more.
#[derive(Debug, Default)]
pub(super) struct Pool {
    kept: Vec<Kept>,
    uses: u64,
}

#[derive(Debug)]
struct Kept {
    buffer: GpuBuffer,
    state: Arc<AtomicU8>,
    used: u64,
}

impl Pool {
    /// The smallest buffer that is ready and has so many bytes, and not eight times as many.
    fn take(&mut self, bytes: u64) -> Option<GpuBuffer> {
        self.uses += 1;
        let uses = self.uses;
        self.kept.retain(|kept| uses - kept.used < IDLE && kept.state.load(Ordering::Acquire) != LOST);
        let fits = |kept: &Kept| {
            let size = kept.buffer.size();
            size >= bytes && size / 8 <= bytes.max(PAGE) && kept.state.load(Ordering::Acquire) == READY
        };
        let fitting = self.kept.iter().enumerate().filter(|(_, kept)| fits(kept));
        let (at, _) = fitting.min_by_key(|(_, kept)| kept.buffer.size())?;
        Some(self.kept.swap_remove(at).buffer)
    }

    /// Keeps a buffer for later uses, once its state says that it is ready.
    fn keep(&mut self, buffer: GpuBuffer, state: Arc<AtomicU8>) {
        self.kept.push(Kept { buffer, state, used: self.uses });
    }
}

/// Mapped memory on its way to the device. It may be slow to read, so it is written alone, and in order.
pub(crate) struct Mapped<'a>(wgpu::WriteOnly<'a, [u8]>);

// SAFETY: It is an exclusive reference to bytes, as `&mut [u8]` is, which goes from thread to thread. wgpu says so of single elements, and
// forgets slices.
#[allow(unsafe_code)]
unsafe impl Send for Mapped<'_> {}

impl<'a> Mapped<'a> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.0.len() / size_of::<f32>()
    }

    /// The first elements, and the rest.
    pub fn split_at(self, len: usize) -> (Mapped<'a>, Mapped<'a>) {
        let (first, rest) = self.0.split_at(len * size_of::<f32>());
        (Mapped(first), Mapped(rest))
    }

    /// Writes the next elements.
    pub fn put(&mut self, values: &[f32]) {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        self.0.split_off(..bytes.len()).expect("as many elements as there is room for").copy_from_slice(bytes);
    }
}

/// Room for elements that are written in order: in main memory, or on their way to a device.
pub(crate) enum Destination<'a> {
    /// Main memory.
    Host(&'a mut [f32]),
    /// A staging buffer.
    Mapped(Mapped<'a>),
}

impl<'a> Destination<'a> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Destination::Host(values) => values.len(),
            Destination::Mapped(mapped) => mapped.len(),
        }
    }

    /// The first elements, and the rest.
    pub fn split_at(self, len: usize) -> (Destination<'a>, Destination<'a>) {
        match self {
            Destination::Host(values) => {
                let (first, rest) = values.split_at_mut(len);
                (Destination::Host(first), Destination::Host(rest))
            }
            Destination::Mapped(mapped) => {
                let (first, rest) = mapped.split_at(len);
                (Destination::Mapped(first), Destination::Mapped(rest))
            }
        }
    }

    /// Writes the next elements.
    pub fn put(&mut self, values: &[f32]) {
        match self {
            Destination::Host(room) => {
                let (first, rest) = std::mem::take(room).split_at_mut(values.len());
                first.copy_from_slice(values);
                *room = rest;
            }
            Destination::Mapped(mapped) => mapped.put(values),
        }
    }
}

/// Writes to a program's buffers that go to the device with its next submission.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    /// Staging buffers, mapped; the last has room.
    pages: Vec<GpuBuffer>,
    /// Bytes of the last that are taken.
    taken: u64,
    copies: Vec<Upload>,
}

#[derive(Debug)]
struct Upload {
    page: usize,
    from: u64,
    to: GpuBuffer,
    at: u64,
    bytes: u64,
}

impl Uploads {
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }

    /// Has `fill` write `len` elements that go to a buffer, from element `at`.
    pub fn write<R>(
        &mut self,
        context: &Context,
        to: &GpuBuffer,
        at: u64,
        len: u64,
        fill: impl FnOnce(Mapped<'_>) -> R,
    ) -> Result<R> {
        let bytes = 4 * len;
        if self.pages.last().is_none_or(|page| page.size() - self.taken < bytes) {
            self.pages.push(context.page(bytes)?);
            self.taken = 0;
        }
        let (page, from) = (self.pages.len() - 1, self.taken);
        let range = from..from + bytes;
        let view =
            context.call("writing", |_, _| self.pages[page].slice(range).get_mapped_range_mut().map(Guarded::new))?;
        let mut view = view.map_err(|error| context.unmapped(error))?;
        let result = fill(Mapped(view.slice(..)));
        drop(view);
        self.copies.push(Upload { page, from, to: to.clone(), at: 4 * at, bytes });
        self.taken = (from + bytes).next_multiple_of(ALIGNMENT).min(self.pages[page].size());
        Ok(result)
    }

    /// Records the copies. The pages go back to their pool by [`Context::return_pages`] after the submission.
    pub fn record(&mut self, encoder: &mut wgpu::CommandEncoder) -> Vec<GpuBuffer> {
        self.pages.iter().for_each(|page| page.unmap());
        for Upload { page, from, to, at, bytes } in self.copies.drain(..) {
            encoder.copy_buffer_to_buffer(&self.pages[page], from, &to, at, bytes);
        }
        self.taken = 0;
        std::mem::take(&mut self.pages)
    }
}

impl Context {
    /// A mapped staging buffer of at least so many bytes.
    fn page(&self, bytes: u64) -> Result<GpuBuffer> {
        if let Some(page) = self.pages().take(bytes) {
            return Ok(page);
        }
        // Of those in flight, some may be done.
        self.call("writing", |device, _| device.poll(wgpu::PollType::Poll).map(drop))?.ok();
        if let Some(page) = self.pages().take(bytes) {
            return Ok(page);
        }
        use wgpu::BufferUsages as Use;
        let size = bytes.max(PAGE).next_multiple_of(ALIGNMENT);
        self.allocate_now("staging", size, Use::MAP_WRITE | Use::COPY_SRC, true)
    }

    /// Has `fill` write `len` elements that go to a buffer at once, from element `at`.
    pub fn upload<R>(&self, to: &GpuBuffer, at: u64, len: u64, fill: impl FnOnce(Destination<'_>) -> R) -> Result<R> {
        let mut uploads = Uploads::default();
        let result = uploads.write(self, to, at, len, |mapped| fill(Destination::Mapped(mapped)))?;
        self.call("writing", |device, queue| {
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let pages = uploads.record(&mut encoder);
            queue.submit([encoder.finish()]);
            self.return_pages(pages);
        })?;
        Ok(result)
    }

    /// Takes pages back that were submitted; they are mapped again when the device has read them. Inside the guard.
    pub(super) fn return_pages(&self, pages: Vec<GpuBuffer>) {
        for page in pages {
            let state = Arc::new(AtomicU8::new(IN_FLIGHT));
            let mapped = state.clone();
            page.slice(..).map_async(wgpu::MapMode::Write, move |result| {
                mapped.store(if result.is_ok() { READY } else { LOST }, Ordering::Release);
            });
            self.pages().keep(page, state);
        }
    }

    /// A staging buffer for results of so many bytes.
    pub(super) fn readback(&self, bytes: u64) -> Result<GpuBuffer> {
        if let Some(buffer) = self.readbacks().take(bytes) {
            return Ok(buffer);
        }
        use wgpu::BufferUsages as Use;
        self.allocate_now("readback", bytes.max(PAGE / 16), Use::MAP_READ | Use::COPY_DST, false)
    }

    /// Takes a readback back that is not mapped any more.
    pub(super) fn return_readback(&self, buffer: GpuBuffer) {
        self.readbacks().keep(buffer, Arc::new(AtomicU8::new(READY)));
    }

    fn unmapped(&self, error: wgpu::MapRangeError) -> Error {
        Error::DeviceFailed {
            during: "writing".into(),
            reason: "a staging buffer is not mapped".into(),
            cause: Some(crate::error::Cause::new(error)),
        }
    }
}
