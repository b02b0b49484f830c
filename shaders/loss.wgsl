// The loss of each row and its gradient; one thread a row. KIND is numbered as LossKind (src/kernel/loss.rs).

struct Params {
    rows: u32,
    width: u32,
    targets: u32,
    levels: u32,
    weighted: u32,
    prediction_offset: u32,
    target_offset: u32,
    gradient_offset: u32,
    row_offset: u32,
    scale: f32,
}

override KIND: u32;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> prediction: array<f32>;     // [rows, width]; logits for cross-entropy
@group(0) @binding(2) var<storage, read> target_: array<f32>;        // [rows, targets]
@group(0) @binding(3) var<storage, read> level: array<f32>;          // [levels]: quantiles, or Huber's delta
@group(0) @binding(4) var<storage, read> row_weight: array<f32>;     // [rows], if weighted
@group(0) @binding(5) var<storage, read_write> gradient: array<f32>; // [rows, width]
@group(0) @binding(6) var<storage, read_write> row_loss: array<f32>; // [rows]

const LEAST_LOG_VARIANCE = -13.815511; // log 1e-6

// A term of a mean over elements and its derivative by the prediction y; `l` is the quantile or delta.
fn term(y: f32, t: f32, l: f32) -> vec2f {
    let error = y - t;
    switch KIND {
        case 1u: { return vec2f(abs(error), sign(error)); } // absolute error
        case 2u: { // Huber
            let slope = clamp(error, -l, l);
            return vec2f(slope * (error - 0.5 * slope), slope);
        }
        case 3u: { // quantile
            return vec2f(max(-l * error, (1.0 - l) * error), select(select(0.0, -l, error < 0.0), 1.0 - l, error > 0.0));
        }
        case 4u: { // binary cross-entropy; σ(y) − t, without the difference of two numbers near 1
            let slope = (1.0 - t) * sigmoid(y) - t * sigmoid(-y);
            return vec2f(max(y, 0.0) - y * t + log_of_one_plus(exp(-abs(y))), slope);
        }
        default: { return vec2f(error * error, 2.0 * error); } // squared error
    }
}

// The target probability of class k: t[k], or 1 for the class that the target names.
fn probability(t: u32, k: u32) -> f32 {
    if KIND == 6u {
        return select(0.0, 1.0, target_[t] == f32(k));
    }
    return target_[t + k];
}

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let row = linear_index(id, groups);
    if row >= p.rows {
        return;
    }
    let y = p.prediction_offset + row * p.width;
    let t = p.target_offset + row * p.targets;
    let g = p.gradient_offset + row * p.width;
    var scale = p.scale;
    if p.weighted == 1u {
        scale = row_weight[p.row_offset + row];
    }
    var sum = 0.0;
    if KIND == 5u || KIND == 6u { // softmax cross-entropy: Σ t·(log Σ e^y − y), with the largest y subtracted first
        var largest = prediction[y];
        for (var k = 1u; k < p.width; k++) {
            largest = max(largest, prediction[y + k]);
        }
        var total = 0.0;
        var weight = 0.0; // Σ t, 1 for probabilities
        for (var k = 0u; k < p.width; k++) {
            total += exp(prediction[y + k] - largest);
            weight += probability(t, k);
        }
        let log_total = log(total) + largest;
        for (var k = 0u; k < p.width; k++) {
            sum += probability(t, k) * (log_total - prediction[y + k]);
            gradient[g + k] = scale * (weight * exp(prediction[y + k] - log_total) - probability(t, k));
        }
    } else if KIND == 7u { // Gaussian: means, then logarithms of variances
        for (var k = 0u; k < p.targets; k++) {
            let error = prediction[y + k] - target_[t + k];
            let given = prediction[y + p.targets + k];
            let log_variance = max(given, LEAST_LOG_VARIANCE);
            let inverse = exp(-log_variance);
            sum += 0.5 * (log_variance + error * error * inverse);
            gradient[g + k] = scale * error * inverse;
            // below the least variance the gradient is that of the variance that was given, as PyTorch has it
            let slope = exp(min(given - LEAST_LOG_VARIANCE, 0.0));
            gradient[g + p.targets + k] = scale * 0.5 * (1.0 - error * error * inverse) * slope;
        }
    } else {
        let levels = max(p.levels, 1u);
        for (var k = 0u; k < p.width; k++) {
            var l = 0.0;
            if p.levels > 0u {
                l = level[k % levels];
            }
            let one = term(prediction[y + k], target_[t + k / levels], l);
            sum += one.x;
            gradient[g + k] = scale * one.y;
        }
    }
    row_loss[p.row_offset + row] = scale * sum;
}
