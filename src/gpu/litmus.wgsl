// Litmus of a barrier across workgroups; shaders/common/grid_barrier.wgsl stands in front. In each round, every thread leaves the round's
// number to its like in the workgroup before, and reads, behind the barrier, what the one after it has left. A workgroup takes about as
// many threads, registers and bytes of workgroup memory as one of a grid's kernels, so that about as many are resident.

override THREADS: u32;
override MEMORY: u32; // elements of workgroup memory

struct Params {
    rounds: u32,
    spins: u32, // that a workgroup waits in all
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) @coherent var<storage, read_write> barrier: array<atomic<u32>>; // [3]: workgroups that finished, arrivals, stale numbers
@group(0) @binding(2) @coherent var<storage, read_write> notes: array<u32>;           // [2, workgroups, THREADS]

var<workgroup> memory: array<vec4f, MEMORY>;

@compute @workgroup_size(THREADS, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_id) local: vec3u,
    @builtin(num_workgroups) groups: vec3u,
) {
    let half = groups.x * THREADS;
    let own = group.x * THREADS + local.x;
    let other = (group.x + 1u) % groups.x * THREADS + local.x;
    // Numbers that stay in registers; the compiler does not know that they are 0.
    var kept0 = mat4x4f(vec4f(f32(notes[own])), vec4f(f32(notes[half + own])), vec4f(f32(notes[other])), vec4f());
    var kept1 = kept0;
    var kept2 = kept0;
    var kept3 = kept0;
    memory[local.x] = kept0[0];
    var spins = p.spins;
    var stale = 0u;
    var round = 1u;
    for (; round <= p.rounds; round++) {
        let at = round % 2u * half;
        notes[at + own] = round;
        if !all_arrived(local.x, 1u, round * groups.x, &spins) {
            break;
        }
        let seen = notes[at + other];
        stale += u32(seen != round);
        let x = memory[(local.x + seen) % THREADS];
        for (var k = 0u; k < 4u; k++) {
            kept0[k] = fma(x, kept0[k], vec4f(f32(k)));
            kept1[k] = fma(x, kept1[k], vec4f(f32(k + 4u)));
            kept2[k] = fma(x, kept2[k], vec4f(f32(k + 8u)));
            kept3[k] = fma(x, kept3[k], vec4f(f32(k + 12u)));
        }
    }
    if stale > 0u {
        atomicAdd(&barrier[2], stale);
    }
    storageBarrier();
    if local.x == 0u && round > p.rounds {
        atomicAdd(&barrier[0], 1u);
    }
    let sum = kept0 + kept1 + kept2 + kept3;
    if dot(sum[0] + sum[1], sum[2] + sum[3]) == -1.0 { // never
        notes[own] = 0u;
    }
}
