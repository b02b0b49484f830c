// Sums over a workgroup of 64 threads, in a fixed order.

var<workgroup> shares: array<f32, 64>;

// The sum of all threads' values, for all threads.
fn total(thread: u32, value: f32) -> f32 {
    workgroupBarrier(); // an earlier sum has been read
    shares[thread] = value;
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if thread < half {
            shares[thread] += shares[thread + half];
        }
    }
    workgroupBarrier();
    return shares[0];
}
