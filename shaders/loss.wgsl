// The loss of each row and its gradient; one thread a row. KIND is numbered as in train/loss.rs.

struct Params {
    rows: u32,
    width: u32,
    prediction_offset: u32,
    target_offset: u32,
    gradient_offset: u32,
    row_offset: u32,
    scale: f32,
}

override KIND: u32;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> prediction: array<f32>;     // [rows, width]; logits for cross-entropy
@group(0) @binding(2) var<storage, read> target_: array<f32>;        // [rows, width]; probabilities for cross-entropy
@group(0) @binding(3) var<storage, read_write> gradient: array<f32>; // [rows, width]
@group(0) @binding(4) var<storage, read_write> row_loss: array<f32>; // [rows]

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let row = linear_index(id, groups);
    if row >= p.rows {
        return;
    }
    let y = p.prediction_offset + row * p.width;
    let t = p.target_offset + row * p.width;
    let g = p.gradient_offset + row * p.width;
    var sum = 0.0;
    if KIND == 2u { // softmax cross-entropy: Σ t·(log Σ e^y − y), the largest y taken out first
        var largest = prediction[y];
        for (var k = 1u; k < p.width; k++) {
            largest = max(largest, prediction[y + k]);
        }
        var total = 0.0;
        var weight = 0.0; // Σ t, 1 for probabilities
        for (var k = 0u; k < p.width; k++) {
            total += exp(prediction[y + k] - largest);
            weight += target_[t + k];
        }
        let log_total = log(total) + largest;
        for (var k = 0u; k < p.width; k++) {
            sum += target_[t + k] * (log_total - prediction[y + k]);
            gradient[g + k] = p.scale * (weight * exp(prediction[y + k] - log_total) - target_[t + k]);
        }
    } else {
        for (var k = 0u; k < p.width; k++) {
            let error = prediction[y + k] - target_[t + k];
            if KIND == 0u { // squared error
                sum += error * error;
                gradient[g + k] = p.scale * 2.0 * error;
            } else { // absolute error
                sum += abs(error);
                gradient[g + k] = p.scale * sign(error);
            }
        }
    }
    row_loss[p.row_offset + row] = p.scale * sum;
}
