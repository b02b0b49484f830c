// A barrier across workgroups that all run at the same time, over `barrier`: one word counts arrivals. No API promises that workgroups
// make progress side by side, so a workgroup waits a bounded number of spins; then it sets the word's highest bit, and all give up.
// The order of memory is that of two fences around relaxed atomics of device scope: naga makes of a storageBarrier a barrier of the
// workgroup with acquire and release semantics in the device's scope. What passes between the workgroups must be in a `@coherent` buffer.

const GAVE_UP = 0x80000000u;

var<workgroup> arrived: u32;

// Waits until the word has counted `all` arrivals, this one included; false if they did not come. `spins` are those that thread 0 has
// left. The count that was read last decides, not how the loop ended: some drivers end a long one early.
fn all_arrived(thread: u32, word: u32, all: u32, spins: ptr<function, u32>) -> bool {
    storageBarrier(); // the workgroup's stores, before its arrival
    if thread == 0u {
        var count = atomicAdd(&barrier[word], 1u) + 1u;
        while count < all && *spins > 0u {
            *spins -= 1u;
            count = atomicLoad(&barrier[word]);
        }
        if count < all {
            atomicOr(&barrier[word], GAVE_UP);
        }
        arrived = count;
    }
    let count = workgroupUniformLoad(&arrived);
    storageBarrier(); // the others' stores, before the workgroup's loads
    return count >= all && count < GAVE_UP;
}
