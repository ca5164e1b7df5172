// Sums over the rows of a map, channel by channel: workgroups of 32 channels and a piece of the rows leave what they found
// in `parts[piece][sum][channel]`.
//
// Settings, which sums: STATISTICS: of x - x[first row], and of its square; GRADIENTS: of dy (x - mean), and of dy; else of x.

struct Params { rows: u32, channels: u32, piece: u32, tiles: u32, groups: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<{x}>;
@group(0) @binding(2) var<storage, read_write> parts: array<f32>;
//! if GRADIENTS
@group(0) @binding(3) var<storage, read_write> dy: array<{x}>;
@group(0) @binding(4) var<storage, read_write> mean: array<f32>;
//! end

const LINES: u32 = 8u;

var<workgroup> first_sums: array<f32, 256>;
var<workgroup> second_sums: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = group.y * 32768u + group.x;
    if (index >= p.groups) {
        return;
    }
    let piece = index / p.tiles;
    let channel = index % p.tiles * 32u + thread % 32u;
    let last = min((piece + 1u) * p.piece, p.rows);
    var one = 0.0;
    var two = 0.0;
    if (channel < p.channels) {
//! if STATISTICS
        let pivot = {wide_x}(x[channel]);
//! end
//! if GRADIENTS
        let pivot = mean[channel];
//! end
        for (var row = piece * p.piece + thread / 32u; row < last; row += LINES) {
            let v = {wide_x}(x[row * p.channels + channel]);
//! if STATISTICS
            let d = v - pivot;
            one += d;
            two += d * d;
//! end
//! if GRADIENTS
            let d = {wide_x}(dy[row * p.channels + channel]);
            one += d * (v - pivot);
            two += d;
//! end
//! if PLAIN
            one += v;
//! end
        }
    }
    first_sums[thread] = one;
    second_sums[thread] = two;
    workgroupBarrier();
    if (thread < 32u && channel < p.channels) {
        for (var line = 1u; line < LINES; line++) {
            one += first_sums[line * 32u + thread];
            two += second_sums[line * 32u + thread];
        }
//! if PLAIN
        parts[piece * p.channels + channel] = one;
//! else
        parts[piece * 2u * p.channels + channel] = one;
        parts[(piece * 2u + 1u) * p.channels + channel] = two;
//! end
    }
}
