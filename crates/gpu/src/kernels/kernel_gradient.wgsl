// The gradient of a convolution's kernel as GEMM: rows are taps and input channels, columns output channels, and the sum
// runs over output pixels. Few rows and columns and long sums: `parts` workgroups share a sum, each with a piece of the
// pixels, and `sum_parts` adds what they found.
//
// Settings: 4 TM rows and 4 TN columns a thread, TX x TY threads; XV and WV: channels of the input and of the output are
// multiples of 4; UP: the input is upsampled.

struct Params {
    // Rows, columns, length of the sums, and pixels of a piece.
    m: u32, n: u32, pixels: u32, piece: u32,
    c: u32, taps: u32, tiles_n: u32, tiles_m: u32,
    // Output pixels of an image.
    out_pixels: u32, out_across: u32, in_pixels: i32, in_across: i32,
    // Of the upsampled input: its size.
    limit_y: i32, limit_x: i32, step: i32, padding: i32,
    up: i32, groups: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
//! if XV
@group(0) @binding(1) var<storage, read_write> x: array<vec4<{x}>>;
//! else
@group(0) @binding(1) var<storage, read_write> x: array<{x}>;
//! end
//! if WV
@group(0) @binding(2) var<storage, read_write> dy: array<vec4<{y}>>;
@group(0) @binding(3) var<storage, read_write> parts: array<vec4<f32>>;
//! else
@group(0) @binding(2) var<storage, read_write> dy: array<{y}>;
@group(0) @binding(3) var<storage, read_write> parts: array<f32>;
//! end

const BK: u32 = 16u;
const BMQ: u32 = TM * TY;
const BNQ: u32 = TN * TX;
const THREADS: u32 = TX * TY;
const LANE_x: u32 = 0u;
const LANE_y: u32 = 1u;
const LANE_z: u32 = 2u;
const LANE_w: u32 = 3u;

// Arrays in arrays: positions in shared memory are clamped, and with one constant index a clamp leaves the loop.
var<workgroup> tile_x: array<array<vec4<f32>, BMQ>, BK>;
var<workgroup> tile_y: array<array<vec4<f32>, BNQ>, BK>;

// The input pixel under a tap of an output pixel, or -1 outside.
fn under(pixel: u32, tap: u32) -> i32 {
    let image = pixel / p.out_pixels;
    let rest = pixel - image * p.out_pixels;
    let out_y = rest / p.out_across;
    let tap_y = tap / p.taps;
    let line = i32(out_y) * p.step + i32(tap_y) - p.padding;
    let column = i32(rest - out_y * p.out_across) * p.step + i32(tap - tap_y * p.taps) - p.padding;
    if (line < 0 || column < 0 || line >= p.limit_y || column >= p.limit_x) {
        return -1;
    }
//! if UP
    return i32(image) * p.in_pixels + line / p.up * p.in_across + column / p.up;
//! else
    return i32(image) * p.in_pixels + line * p.in_across + column;
//! end
}

//! if !XV
fn single(pixel: u32, row: u32) -> f32 {
    if (row >= p.m) {
        return 0.0;
    }
    let tap = row / p.c;
    let origin = under(pixel, tap);
    if (origin < 0) {
        return 0.0;
    }
    return {wide_x}(x[u32(origin) * p.c + (row - tap * p.c)]);
}
//! end

fn gradients(pixel: u32, column: u32) -> vec4<f32> {
    if (column >= p.n) {
        return vec4<f32>(0.0);
    }
    let at = pixel * p.n + column;
//! if WV
    return {wide4_y}(dy[at / 4u]);
//! else
    var v = vec4<f32>(0.0);
    v.x = {wide_y}(dy[at]);
    if (column + 1u < p.n) { v.y = {wide_y}(dy[at + 1u]); }
    if (column + 2u < p.n) { v.z = {wide_y}(dy[at + 2u]); }
    if (column + 3u < p.n) { v.w = {wide_y}(dy[at + 3u]); }
    return v;
//! end
}

fn store(part: u32, row: u32, column: u32, sums: vec4<f32>) {
    if (row >= p.m || column >= p.n) {
        return;
    }
    let at = (part * p.m + row) * p.n + column;
//! if WV
    parts[at / 4u] = sums;
//! else
    parts[at] = sums.x;
    if (column + 1u < p.n) { parts[at + 1u] = sums.y; }
    if (column + 2u < p.n) { parts[at + 2u] = sums.z; }
    if (column + 3u < p.n) { parts[at + 3u] = sums.w; }
//! end
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = group.y * 32768u + group.x;
    if (index >= p.groups) {
        return;
    }
    let tile_n = index % p.tiles_n;
    let tile_m = index / p.tiles_n % p.tiles_m;
    let part = index / p.tiles_n / p.tiles_m;
    let own_x = thread % TX;
    let own_y = thread / TX;

    let fetch_m = thread % BMQ;
    let row = (tile_m * BMQ + fetch_m) * 4u;
//! if XV
    let tap = row / p.c;
    let channel = row - tap * p.c;
//! end
    let fetch_n = thread % BNQ;
    let column = (tile_n * BNQ + fetch_n) * 4u;
    let first = part * p.piece;
    let last = min(first + p.piece, p.pixels);

//! for i TM
//! for e x y z w
//! for j TN
    var sum{i}{e}_{j} = vec4<f32>(0.0);
//! end
//! end
//! end
    for (var start = first; start < last; start += BK) {
//! for i LX
        {
            let line = thread / BMQ + {i}u * (THREADS / BMQ);
            let pixel = start + line;
            var v = vec4<f32>(0.0);
//! if XV
            if (pixel < last && row < p.m) {
                let origin = under(pixel, tap);
                if (origin >= 0) {
                    v = {wide4_x}(x[(u32(origin) * p.c + channel) / 4u]);
                }
            }
//! else
            if (pixel < last) {
                v = vec4<f32>(
                    single(pixel, row), single(pixel, row + 1u),
                    single(pixel, row + 2u), single(pixel, row + 3u),
                );
            }
//! end
            tile_x[line][fetch_m] = v;
        }
//! end
//! for i LW
        {
            let line = thread / BNQ + {i}u * (THREADS / BNQ);
            let pixel = start + line;
            var v = vec4<f32>(0.0);
            if (pixel < last) {
                v = gradients(pixel, column);
            }
            tile_y[line][fetch_n] = v;
        }
//! end
        workgroupBarrier();
//! for k 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
        {
//! for i TM
            let a{i} = tile_x[{k}u][own_y + {i}u * TY];
//! end
//! for j TN
            let b{j} = tile_y[{k}u][own_x + {j}u * TX];
//! for i TM
//! for e x y z w
            sum{i}{e}_{j} = fma(vec4<f32>(a{i}.{e}), b{j}, sum{i}{e}_{j});
//! end
//! end
//! end
        }
//! end
        workgroupBarrier();
    }

//! for i TM
//! for e x y z w
//! for j TN
    store(
        part,
        (tile_m * BMQ + own_y + {i}u * TY) * 4u + LANE_{e},
        (tile_n * BNQ + own_x + {j}u * TX) * 4u,
        sum{i}{e}_{j},
    );
//! end
//! end
//! end
}
