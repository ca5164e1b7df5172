// The gradient of a maximum over windows: each goes to the first largest element of its window.
//
// Settings: NORMALIZE, RELU: as in max_pool; MASK: only where the maximum is positive.

struct Params {
    len: u32, stride: u32, channels: u32, height: u32,
    width: u32, out_height: u32, out_width: u32, pool: u32,
    step: u32, padding: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<{x}>;
@group(0) @binding(2) var<storage, read_write> dy: array<{x}>;
@group(0) @binding(3) var<storage, read_write> dx: array<{x}>;
//! if NORMALIZE
// The batch norm's; scale and shift are its third and fourth row.
@group(0) @binding(4) var<storage, read_write> state: array<f32>;
//! end

// The value at a place of the padded input.
fn value(image: u32, line: u32, column: u32, channel: u32) -> f32 {
    let from_y = line - p.padding;
    let from_x = column - p.padding;
    if (from_y >= p.height || from_x >= p.width) {
        return 0.0;
    }
    var v = {wide_x}(x[((image * p.height + from_y) * p.width + from_x) * p.channels + channel]);
//! if NORMALIZE
    v = v * state[2u * p.channels + channel] + state[3u * p.channels + channel];
//! end
//! if RELU
    v = select(v, 0.0, v < 0.0);
//! end
    return v;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var i = (group.y * 32768u + group.x) * 256u + thread; i < p.len; i += p.stride) {
        let channel = i % p.channels;
        let at = i / p.channels;
        let column = at % p.width + p.padding;
        let line = at / p.width % p.height + p.padding;
        let image = at / p.width / p.height;
        let own = value(image, line, column, channel);
        var sum = 0.0;
        // The windows that see this pixel.
        let first_y = (max(line + 1u, p.pool) - p.pool + p.step - 1u) / p.step;
        let first_x = (max(column + 1u, p.pool) - p.pool + p.step - 1u) / p.step;
        for (var wy = first_y; wy < p.out_height && wy * p.step <= line; wy++) {
            for (var wx = first_x; wx < p.out_width && wx * p.step <= column; wx++) {
                var takes = true;
//! if MASK
                takes = own > 0.0;
//! end
                let place = (line - wy * p.step) * p.pool + column - wx * p.step;
                for (var k = 0u; takes && k < p.pool * p.pool; k++) {
                    if (k != place) {
                        let other = value(image, wy * p.step + k / p.pool, wx * p.step + k % p.pool, channel);
                        takes = select(own >= other, own > other, k < place);
                    }
                }
                if (takes) {
                    sum += {wide_x}(dy[((image * p.out_height + wy) * p.out_width + wx) * p.channels + channel]);
                }
            }
        }
        dx[i] = {near_x}(sum);
    }
}
