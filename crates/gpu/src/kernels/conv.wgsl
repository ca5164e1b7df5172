// A convolution as implicit GEMM: rows are output pixels, columns output channels, and the sum runs over taps and input
// channels. The same sum, with taps in the other direction, is the gradient of a convolution's input.
//
// Settings: TM rows and 4 TN columns a thread, TX x TY threads; XV and WV: channels of the input and of the output are
// multiples of 4; UP: the input is upsampled; BIAS, RESIDUAL, ADD, RELU, MASK: the epilogue.

struct Params {
    // Rows, columns and length of the sums.
    rows: u32, n: u32, k: u32, c: u32,
    // Output pixels of an image, taps across, and tiles of columns and of all.
    across: u32, pixels: u32, taps: u32, tiles_n: u32,
    // Of the upsampled input: its size, and where the first tap of output (0, 0) is.
    limit_y: i32, limit_x: i32, off_y: i32, off_x: i32,
    // Steps between outputs and between taps, the factor of upsampling, and the first row of the weights.
    step: i32, way: i32, up: i32, base: u32,
    // Size of the input's image, and of the whole output, of which every `spread`th pixel is written.
    in_pixels: i32, in_across: i32, out_pixels: u32, out_across: u32,
    spread: u32, out_y: u32, out_x: u32, tiles: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
//! if XV
@group(0) @binding(1) var<storage, read_write> x: array<vec4<{x}>>;
//! else
@group(0) @binding(1) var<storage, read_write> x: array<{x}>;
//! end
//! if WV
@group(0) @binding(2) var<storage, read_write> w: array<vec4<{y}>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<{y}>>;
//! if BIAS
@group(0) @binding(4) var<storage, read_write> bias: array<vec4<f32>>;
//! end
//! if RESIDUAL
@group(0) @binding(5) var<storage, read_write> residual: array<vec4<{y}>>;
//! end
//! if MASK
@group(0) @binding(6) var<storage, read_write> mask: array<vec4<{y}>>;
//! end
//! else
@group(0) @binding(2) var<storage, read_write> w: array<{y}>;
@group(0) @binding(3) var<storage, read_write> y: array<{y}>;
//! if BIAS
@group(0) @binding(4) var<storage, read_write> bias: array<f32>;
//! end
//! if RESIDUAL
@group(0) @binding(5) var<storage, read_write> residual: array<{y}>;
//! end
//! if MASK
@group(0) @binding(6) var<storage, read_write> mask: array<{y}>;
//! end
//! end

const KQ: u32 = 4u;
const BK: u32 = 16u;
const BM: u32 = TM * TY;
const BNQ: u32 = TN * TX;
const THREADS: u32 = TX * TY;
// One more, so that rows begin in different banks.
const STRIDE: u32 = KQ + 1u;
const LANE_x: u32 = 0u;
const LANE_y: u32 = 1u;
const LANE_z: u32 = 2u;
const LANE_w: u32 = 3u;

// Arrays in arrays: positions in shared memory are clamped, and with one constant index a clamp leaves the loop.
var<workgroup> tile_x: array<array<vec4<f32>, STRIDE>, BM>;
var<workgroup> tile_w: array<array<vec4<f32>, BNQ>, BK>;

// First input pixel of a row's image, and the row and column of its first tap.
fn locate(row: u32) -> vec3<i32> {
    let image = row / p.pixels;
    let pixel = row - image * p.pixels;
    let line = pixel / p.across;
    let column = pixel - line * p.across;
    return vec3<i32>(
        i32(image) * p.in_pixels,
        i32(line) * p.step + p.off_y,
        i32(column) * p.step + p.off_x,
    );
}

// The input pixel under a tap, or -1 outside.
fn under(q: vec3<i32>, tap_y: u32, tap_x: u32) -> i32 {
    let line = q.y + p.way * i32(tap_y);
    let column = q.z + p.way * i32(tap_x);
    if (line < 0 || column < 0 || line >= p.limit_y || column >= p.limit_x) {
        return -1;
    }
//! if UP
    return q.x + line / p.up * p.in_across + column / p.up;
//! else
    return q.x + line * p.in_across + column;
//! end
}

//! if !XV
fn single(q: vec3<i32>, k: u32) -> f32 {
    let tap = k / p.c;
    let tap_y = tap / p.taps;
    let pixel = under(q, tap_y, tap - tap_y * p.taps);
    if (k >= p.k || pixel < 0) {
        return 0.0;
    }
    return {wide_x}(x[u32(pixel) * p.c + (k - tap * p.c)]);
}
//! end

fn weights(row: u32, column: u32) -> vec4<f32> {
    if (row >= p.k || column >= p.n) {
        return vec4<f32>(0.0);
    }
    let at = (p.base + row) * p.n + column;
//! if WV
    return {wide4_y}(w[at / 4u]);
//! else
    var v = vec4<f32>(0.0);
    v.x = {wide_y}(w[at]);
    if (column + 1u < p.n) { v.y = {wide_y}(w[at + 1u]); }
    if (column + 2u < p.n) { v.z = {wide_y}(w[at + 2u]); }
    if (column + 3u < p.n) { v.w = {wide_y}(w[at + 3u]); }
    return v;
//! end
}

//! if WV
fn store(pixel: u32, column: u32, sums: vec4<f32>) {
    if (column >= p.n) {
        return;
    }
    let at = (pixel * p.n + column) / 4u;
    var v = sums;
//! if BIAS
    v = v + bias[column / 4u];
//! end
//! if RESIDUAL
    v = v + {wide4_y}(residual[at]);
//! end
//! if ADD
    v = v + {wide4_y}(y[at]);
//! end
//! if RELU
    v = select(v, vec4<f32>(0.0), v < vec4<f32>(0.0));
//! end
//! if MASK
    v = select(vec4<f32>(0.0), v, {wide4_y}(mask[at]) > vec4<f32>(0.0));
//! end
    y[at] = {near4_y}(v);
}
//! else
fn store_one(at: u32, column: u32, sum: f32) {
    var v = sum;
//! if BIAS
    v = v + bias[column];
//! end
//! if RESIDUAL
    v = v + {wide_y}(residual[at]);
//! end
//! if ADD
    v = v + {wide_y}(y[at]);
//! end
//! if RELU
    v = select(v, 0.0, v < 0.0);
//! end
//! if MASK
    v = select(0.0, v, {wide_y}(mask[at]) > 0.0);
//! end
    y[at] = {near_y}(v);
}

fn store(pixel: u32, column: u32, sums: vec4<f32>) {
    let at = pixel * p.n + column;
//! for e x y z w
    if (column + LANE_{e} < p.n) {
        store_one(at + LANE_{e}, column + LANE_{e}, sums.{e});
    }
//! end
}
//! end

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let tile = group.y * 32768u + group.x;
    if (tile >= p.tiles) {
        return;
    }
    let tile_m = tile / p.tiles_n;
    let tile_n = tile - tile_m * p.tiles_n;
    let own_x = thread % TX;
    let own_y = thread / TX;

    // What this thread fetches: a quarter of a row's sixteen terms, and four columns of a row of weights.
    let fetch_k = thread % KQ;
//! for i LX
    let line{i} = thread / KQ + {i}u * (THREADS / KQ);
    let row{i} = tile_m * BM + line{i};
    let inside{i} = row{i} < p.rows;
    let q{i} = locate(row{i});
//! end
    let fetch_n = thread % BNQ;
    let column = (tile_n * BNQ + fetch_n) * 4u;
    var k = fetch_k * 4u;
//! if XV
    let tap = k / p.c;
    var channel = k - tap * p.c;
    var tap_y = tap / p.taps;
    var tap_x = tap - tap_y * p.taps;
//! end

//! for i TM
//! for j TN
    var sum{i}_{j} = vec4<f32>(0.0);
//! end
//! end
    for (var start = 0u; start < p.k; start += BK) {
//! for i LX
        {
            var v = vec4<f32>(0.0);
//! if XV
            let pixel = under(q{i}, tap_y, tap_x);
            if (inside{i} && k < p.k && pixel >= 0) {
                v = {wide4_x}(x[(u32(pixel) * p.c + channel) / 4u]);
            }
//! else
            if (inside{i}) {
                v = vec4<f32>(
                    single(q{i}, k), single(q{i}, k + 1u), single(q{i}, k + 2u), single(q{i}, k + 3u),
                );
            }
//! end
            tile_x[line{i}][fetch_k] = v;
        }
//! end
//! for i LW
        {
            let row = thread / BNQ + {i}u * (THREADS / BNQ);
            tile_w[row][fetch_n] = weights(start + row, column);
        }
//! end
        k += BK;
//! if XV
        channel += BK;
        while (channel >= p.c) {
            channel -= p.c;
            tap_x += 1u;
            if (tap_x == p.taps) {
                tap_x = 0u;
                tap_y += 1u;
            }
        }
//! end
        workgroupBarrier();
//! for q 0 1 2 3
        {
//! for i TM
            let a{i} = tile_x[own_y * TM + {i}u][{q}u];
//! end
//! for e x y z w
//! for j TN
            let b{e}{j} = tile_w[{q}u * 4u + LANE_{e}][own_x + {j}u * TX];
//! for i TM
            sum{i}_{j} = fma(vec4<f32>(a{i}.{e}), b{e}{j}, sum{i}_{j});
//! end
//! end
//! end
        }
//! end
        workgroupBarrier();
    }

//! for i TM
    {
        let row = tile_m * BM + own_y * TM + {i}u;
        if (row < p.rows) {
            let image = row / p.pixels;
            let pixel = row - image * p.pixels;
            let line = pixel / p.across;
            let column = pixel - line * p.across;
            let to = image * p.out_pixels + (line * p.spread + p.out_y) * p.out_across
                + column * p.spread + p.out_x;
//! for j TN
            store(to, (tile_n * BNQ + own_x + {j}u * TX) * 4u, sum{i}_{j});
//! end
        }
    }
//! end
}
