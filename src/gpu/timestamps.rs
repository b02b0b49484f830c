//! Timestamps that a device writes between commands.

use super::context::Context;
use super::guard::Guarded;
use crate::error::Result;

impl Context {
    /// A set of so many timestamps.
    pub(super) fn timestamp_set(&self, count: u32) -> Result<Guarded<wgpu::QuerySet>> {
        self.call("making timestamps", |device, _| {
            Guarded::new(device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count,
            }))
        })
    }

    /// Waits for everything that was submitted, and gives the first so many timestamps of a set, in ticks, and the nanoseconds of a tick.
    pub(super) async fn ticks(&self, set: &wgpu::QuerySet, count: u32) -> Result<(Vec<u64>, f64)> {
        use wgpu::BufferUsages as Use;
        let bytes = 8 * count as u64;
        let buffer = self.allocate("timestamps", bytes, Use::QUERY_RESOLVE | Use::COPY_SRC).await?;
        let period = self.call("reading timestamps", |device, queue| {
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.resolve_query_set(set, 0..count, &buffer, 0);
            queue.submit([encoder.finish()]);
            queue.get_timestamp_period() as f64
        })?;
        let words: Vec<u32> = self.read_as(&buffer, 0, bytes / 4).await?;
        Ok((words.chunks_exact(2).map(|pair| pair[0] as u64 | (pair[1] as u64) << 32).collect(), period))
    }
}
