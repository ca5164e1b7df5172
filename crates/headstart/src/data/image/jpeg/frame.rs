//! What a frame header says: size, components, sampling.

use headstart_kernels::jpeg::LANES;

use super::Fault;

/// Samples on a side of a block.
pub(super) const BLOCK: usize = 8;

/// A colour component of a frame.
pub(super) struct Component {
    /// Its name in scan headers.
    pub id: u8,
    /// Samples across and down for each sampling unit of the frame, 1 to 4.
    pub sampling: (usize, usize),
    /// Which quantisation table it uses.
    pub table: usize,
    /// The table, in row-major order, once a scan of the component has begun.
    pub steps: Option<[u16; 64]>,
    /// Samples of a block across and down in the result: [`BLOCK`], or fewer where it is reduced.
    pub side: usize,
    /// Samples across and down.
    pub size: (usize, usize),
    /// Blocks across and down that hold these samples.
    pub blocks: (usize, usize),
    /// Blocks across and down with those that fill up the units at the right and at the bottom.
    pub padded: (usize, usize),
}

/// A frame: one image.
pub(super) struct Frame {
    pub width: usize,
    pub height: usize,
    pub progressive: bool,
    /// Whether codes are arithmetic ones, not Huffman's.
    pub arithmetic: bool,
    pub components: Vec<Component>,
    /// Pixels of a block of the component with the most samples.
    pub side: usize,
    /// The greatest sampling across and down.
    pub sampling: (usize, usize),
    /// Units across and down.
    pub units: (usize, usize),
}

impl Frame {
    /// Reads the body of the frame header of this marker, `SOF0` to `SOF2`, `SOF9` or `SOF10`.
    pub fn new(body: &[u8], marker: u8) -> Result<Frame, Fault> {
        let bad = Fault::Bad("a bad frame header");
        let Some((&[precision, h1, h0, w1, w0, count], listed)) = body.split_first_chunk::<6>()
        else {
            return Err(bad);
        };
        let (listed, rest) = listed.as_chunks::<3>();
        if listed.len() != usize::from(count) || !rest.is_empty() {
            return Err(bad);
        }
        match precision {
            8 => {}
            12 => return Err(Fault::Foreign("12 bits a sample, as medical images have")),
            _ => return Err(Fault::Foreign("other than 8 bits a sample")),
        }
        // Two are in TIFF: grey with alpha.
        if !matches!(count, 1..=4) {
            return Err(bad);
        }
        let [width, height] = [[w1, w0], [h1, h0]].map(|b| usize::from(u16::from_be_bytes(b)));
        let factors = listed.iter().map(|&[_, s, _]| (usize::from(s >> 4), usize::from(s & 15)));
        let factors: Vec<(usize, usize)> = factors.collect();
        if !factors.iter().all(|(h, v)| (1..=4).contains(h) && (1..=4).contains(v)) {
            return Err(Fault::Bad("a bad sampling factor"));
        }
        let most = |of: fn(&(usize, usize)) -> usize| factors.iter().map(of).max().unwrap_or(1);
        let sampling = (most(|f| f.0), most(|f| f.1));
        if !factors
            .iter()
            .all(|(h, v)| sampling.0.is_multiple_of(*h) && sampling.1.is_multiple_of(*v))
        {
            return Err(Fault::Foreign("samplings that do not divide one another"));
        }
        let units = (width.div_ceil(BLOCK * sampling.0), height.div_ceil(BLOCK * sampling.1));
        let component = |(&[id, _, table], &(h, v)): (&[u8; 3], &(usize, usize))| {
            let size = ((width * h).div_ceil(sampling.0), (height * v).div_ceil(sampling.1));
            Component {
                id,
                sampling: (h, v),
                table: usize::from(table),
                steps: None,
                side: BLOCK,
                size,
                blocks: (size.0.div_ceil(BLOCK), size.1.div_ceil(BLOCK)),
                padded: (units.0 * h, units.1 * v),
            }
        };
        let components = listed.iter().zip(&factors).map(component).collect();
        let (progressive, arithmetic) = (matches!(marker, 0xc2 | 0xca), marker >= 0xc9);
        let side = BLOCK;
        Ok(Frame { width, height, progressive, arithmetic, components, side, sampling, units })
    }

    /// Makes the image `scale` times smaller: 1, 2, 4 or 8. Components with fewer samples are reduced less (libjpeg's
    /// `jpeg_calc_output_dimensions`).
    pub fn reduce(&mut self, scale: usize) {
        self.side = BLOCK / scale;
        let (across, down) = (self.sampling.0 * self.side, self.sampling.1 * self.side);
        for component in &mut self.components {
            let (h, v) = component.sampling;
            let fits = |side: usize| {
                side <= BLOCK && across.is_multiple_of(h * side) && down.is_multiple_of(v * side)
            };
            let mut side = self.side;
            while fits(2 * side) {
                side *= 2;
            }
            component.side = side;
            let part = |length: usize, sampling: usize, most: usize| {
                (length * sampling * side).div_ceil(most * BLOCK)
            };
            component.size =
                (part(self.width, h, self.sampling.0), part(self.height, v, self.sampling.1));
        }
        (self.width, self.height) = (self.width.div_ceil(scale), self.height.div_ceil(scale));
    }

    /// Bytes that its samples and pixels take, and coefficients where it does not come `whole`, in one scan.
    pub fn memory(&self, whole: bool) -> u64 {
        let row = |c: &Component| (c.padded.0 + LANES) * c.padded.1;
        let blocks: u64 = self.components.iter().map(|c| row(c) as u64).sum();
        let each = if whole { 64 } else { 3 * 64 };
        blocks * each + (self.width * self.height * 3) as u64
    }

    /// Blocks of all components.
    pub fn blocks(&self) -> usize {
        self.components.iter().map(|c| c.padded.0 * c.padded.1).sum()
    }
}

/// What a scan header says.
pub(super) struct Scan {
    /// The components in it by place in the frame, each with its Huffman tables for DC and AC.
    pub components: Vec<(usize, usize, usize)>,
    /// First and last coefficient, in the order of files.
    pub band: (usize, usize),
    /// The bit above the first one that is sent, 0 at the first time; the last bit that is sent.
    pub bits: (u8, u8),
}

impl Scan {
    /// Reads the body of a scan header.
    pub fn new(body: &[u8], frame: &Frame) -> Result<Scan, Fault> {
        let bad = Fault::Bad("a bad scan header");
        let Some((&count, rest)) = body.split_first() else { return Err(bad) };
        let Some((listed, &[first, last, bits])) = rest.split_last_chunk::<3>() else {
            return Err(bad);
        };
        let (listed, rest) = listed.as_chunks::<2>();
        if listed.len() != usize::from(count) || !rest.is_empty() || !(1..=4).contains(&count) {
            return Err(bad);
        }
        let mut components: Vec<(usize, usize, usize)> = Vec::new();
        for &[id, tables] in listed {
            let used = |i: usize| components.iter().any(|c| c.0 == i);
            let mut found = frame.components.iter().enumerate();
            let found = found.position(|(i, c)| c.id == id && !used(i));
            let place =
                found.ok_or(Fault::Bad("a scan of a component that is not in the frame"))?;
            components.push((place, usize::from(tables >> 4), usize::from(tables & 15)));
        }
        let band = (usize::from(first), usize::from(last));
        let scan = Scan { components, band, bits: (bits >> 4, bits & 15) };
        if frame.progressive && !scan.is_progression() {
            return Err(Fault::Bad("a scan of coefficients that cannot be"));
        }
        Ok(scan)
    }

    /// Whether coefficients and bits are as progressive files have them.
    fn is_progression(&self) -> bool {
        let ((first, last), (before, bit)) = (self.band, self.bits);
        let band = match first {
            0 => last == 0,
            _ => first <= last && last < 64 && self.components.len() == 1,
        };
        band && (before == 0 || before == bit + 1) && bit <= 13
    }
}
