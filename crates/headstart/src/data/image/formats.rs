//! The kinds of image files by name: those that are read, and those that are known and not read. Every list of
//! extensions is here.

use std::fmt;

/// The encodings that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JFIF, EXIF or bare JPEG: baseline, extended or progressive, 1, 3 or 4 components.
    Jpeg,
    /// PNG of any colour type and depth.
    Png,
    /// WebP, lossy or lossless; the first picture of an animation.
    WebP,
    /// The first picture of a GIF.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// Netpbm's PBM, PGM and PPM, as text or binary.
    Pnm,
    /// The first page of a TIFF of up to 8 bits a sample.
    Tiff,
    /// Truevision's Targa.
    Tga,
    /// The largest picture of a Windows icon.
    Ico,
    /// The "quite OK" image format.
    Qoi,
    /// JPEG XL, bare or in its container; the first picture of an animation.
    JpegXl,
}

/// The names of all [`Format`]s, for messages.
pub const FORMATS: &str = "JPEG, PNG, WebP, GIF, BMP, PNM, TIFF, TGA, ICO, QOI or JPEG XL";

impl Format {
    /// All of them.
    pub const ALL: [Format; 11] = [
        Format::Jpeg,
        Format::Png,
        Format::WebP,
        Format::Gif,
        Format::Bmp,
        Format::Pnm,
        Format::Tiff,
        Format::Tga,
        Format::Ico,
        Format::Qoi,
        Format::JpegXl,
    ];

    /// The extensions of such files, without the dot, in lower case.
    pub fn extensions(self) -> &'static [&'static str] {
        match self {
            // A camera's .mpo begins with a whole JPEG.
            Format::Jpeg => &["jpg", "jpeg", "jpe", "jfif", "mpo"],
            Format::Png => &["png", "apng"],
            Format::WebP => &["webp"],
            Format::Gif => &["gif"],
            Format::Bmp => &["bmp", "dib"],
            Format::Pnm => &["pnm", "ppm", "pgm", "pbm"],
            Format::Tiff => &["tif", "tiff"],
            Format::Tga => &["tga", "icb", "vda", "vst"],
            Format::Ico => &["ico"],
            Format::Qoi => &["qoi"],
            Format::JpegXl => &["jxl"],
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Jpeg => "JPEG",
            Format::Png => "PNG",
            Format::WebP => "WebP",
            Format::Gif => "GIF",
            Format::Bmp => "BMP",
            Format::Pnm => "PNM",
            Format::Tiff => "TIFF",
            Format::Tga => "TGA",
            Format::Ico => "ICO",
            Format::Qoi => "QOI",
            Format::JpegXl => "JPEG XL",
        })
    }
}

/// A well-known kind of image that is not read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub name: &'static str,
    extensions: &'static [&'static str],
    /// A command that makes a PNG of a FILE.
    convert: &'static str,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a file of {}, which is not supported; convert it: {}", self.name, self.convert)
    }
}

const MAGICK: &str = "magick FILE FILE.png";

const fn foreign(
    name: &'static str,
    extensions: &'static [&'static str],
    convert: &'static str,
) -> Foreign {
    Foreign { name, extensions, convert }
}

const HEIC: Foreign =
    foreign("HEIC", &["heic", "heif", "hif", "heics", "heifs"], "heif-convert FILE FILE.png");
const AVIF: Foreign = foreign("AVIF", &["avif", "avifs"], "avifdec FILE FILE.png");
pub(super) const RAW: Foreign = foreign(
    "camera raw",
    &[
        "dng", "cr2", "cr3", "crw", "nef", "nrw", "arw", "sr2", "srf", "orf", "raf", "rw2", "pef",
        "srw", "x3f", "3fr", "iiq", "rwl", "dcr", "kdc", "mrw", "erf", "mef", "mos", "raw",
    ],
    "darktable-cli FILE FILE.jpg",
);
const JPEG_2000: Foreign = foreign(
    "JPEG 2000",
    &["jp2", "j2k", "j2c", "jpc", "jpf", "jpx", "jpm", "jph"],
    "opj_decompress -i FILE -o FILE.png",
);
const SVG: Foreign = foreign("SVG", &["svg", "svgz"], "rsvg-convert -o FILE.png FILE");
const DICOM: Foreign = foreign("DICOM", &["dcm", "dicom"], "dcm2img --write-png FILE FILE.png");
const PHOTOSHOP: Foreign = foreign("Photoshop", &["psd", "psb"], "magick FILE[0] FILE.png");
const OPENEXR: Foreign = foreign("OpenEXR", &["exr"], MAGICK);
const RADIANCE: Foreign = foreign("Radiance HDR", &["hdr"], MAGICK);
const PAM: Foreign = foreign("PAM or PFM", &["pam", "pfm"], MAGICK);
const CURSOR: Foreign = foreign("Windows cursor", &["cur"], MAGICK);
const PCX: Foreign = foreign("PCX", &["pcx"], MAGICK);
const DDS: Foreign = foreign("DDS", &["dds"], MAGICK);
const JPEG_XR: Foreign = foreign("JPEG XR", &["jxr", "wdp", "hdp"], MAGICK);
const GIMP: Foreign = foreign("GIMP", &["xcf"], MAGICK);

/// All that are known by name.
const FOREIGN: [&Foreign; 15] = [
    &HEIC, &AVIF, &RAW, &JPEG_2000, &SVG, &DICOM, &PHOTOSHOP, &OPENEXR, &RADIANCE, &PAM, &CURSOR,
    &PCX, &DDS, &JPEG_XR, &GIMP,
];

/// Whether a file's name says that it is an image of a kind that is read.
pub fn is_image_name(name: &str) -> bool {
    let read = |e| Format::ALL.iter().any(|format| is_among(format.extensions(), e));
    extension(name).is_some_and(read)
}

/// What comes after the last dot of a file's name.
fn extension(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(_, extension)| extension)
}

fn is_among(extensions: &[&str], extension: &str) -> bool {
    extensions.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Whether the name claims to be that of an image, of whatever kind.
pub(crate) fn has_image_extension(name: &str) -> bool {
    is_image_name(name) || foreign_by_name(name).is_some()
}

/// The kind that is not read of which a file of this name claims to be.
pub(crate) fn foreign_by_name(name: &str) -> Option<&'static Foreign> {
    let extension = extension(name)?;
    FOREIGN.into_iter().find(|kind| is_among(kind.extensions, extension))
}

/// Whether a file of this name may have this format; one without an ending claims nothing.
pub(crate) fn suits(name: &str, format: Format) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    extension(file).is_none_or(|extension| is_among(format.extensions(), extension))
}

/// The kind that is not read of which the file that begins with `head` is.
pub(super) fn foreign_by_content(head: &[u8]) -> Option<&'static Foreign> {
    let at = |from: usize, magic: &[u8]| head.get(from..).is_some_and(|t| t.starts_with(magic));
    let any = |magics: &[&[u8]]| magics.iter().any(|magic| at(0, magic));
    Some(match head {
        // The brand may stand behind a general one.
        _ if at(4, b"ftyp") && head[8..].chunks(4).take(8).any(|brand| brand == b"avif") => &AVIF,
        _ if at(4, b"ftypavi") => &AVIF,
        _ if at(4, b"ftypcrx") => &RAW,
        _ if [&b"heic"[..], b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"]
            .iter()
            .any(|brand| at(4, b"ftyp") && at(8, brand)) =>
        {
            &HEIC
        }
        // TIFF's directory has to tell other raw files from pictures.
        _ if (at(0, b"II*\0") && at(8, b"CR")) || any(&[b"IIRO", b"IIRS", b"MMOR", b"IIU\0"]) => {
            &RAW
        }
        _ if any(&[b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM"]) => &RAW,
        _ if at(4, b"jP  ") || at(0, b"\xff\x4f\xff\x51") => &JPEG_2000,
        _ if at(128, b"DICM") => &DICOM,
        _ if at(0, b"8BPS") => &PHOTOSHOP,
        _ if at(0, b"\x76\x2f\x31\x01") => &OPENEXR,
        _ if any(&[b"#?RADIANCE", b"#?RGBE"]) => &RADIANCE,
        [b'P', b'7' | b'F' | b'f', b'\n' | b'\r' | b' ', ..] => &PAM,
        [0, 0, 2, 0, count, 0, ..] if *count > 0 && at(9, b"\0") => &CURSOR,
        [0x0a, 0 | 2..=5, 1, 1 | 2 | 4 | 8, ..] => &PCX,
        _ if at(0, b"DDS ") => &DDS,
        _ if at(0, b"II\xbc\x01") => &JPEG_XR,
        _ if at(0, b"gimp xcf") => &GIMP,
        _ if is_svg(head) => &SVG,
        _ => return None,
    })
}

/// Whether this begins a text in which the SVG element comes early, after a declaration and comments.
fn is_svg(head: &[u8]) -> bool {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let begins = [&b"<svg"[..], b"<!DOCTYPE svg"].iter().any(|start| text.starts_with(start));
    let later = text.starts_with(b"<?xml") || text.starts_with(b"<!--");
    begins || (later && text.windows(4).any(|w| w == b"<svg"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_extension_belongs_to_one_kind() {
        let read = Format::ALL.iter().flat_map(|format| format.extensions());
        let all: Vec<&str> =
            read.chain(FOREIGN.iter().flat_map(|kind| kind.extensions)).copied().collect();
        assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len());
        assert!(all.iter().all(|e| has_image_extension(&format!("a.b.{}", e.to_uppercase()))));
        assert!(!has_image_extension("tif") && !has_image_extension("notes.txt"));
        assert!(suits("tif", Format::Png) && suits("a.b/c", Format::Png));
        assert!(suits("x.TIFF", Format::Tiff) && !suits("x.tiff", Format::Png));
    }

    #[test]
    fn foreign_kinds_are_known_by_content() {
        let mut dicom = vec![0; 128];
        dicom.extend(b"DICM");
        for (head, name) in [
            (&b"\0\0\0\x18ftypheic"[..], "HEIC"),
            (b"\0\0\0\x18ftypmif1", "HEIC"),
            (b"\0\0\0\x18ftypavif", "AVIF"),
            (b"\0\0\0\x1cftypmif1\0\0\0\0avif", "AVIF"),
            (b"\0\0\0\x18ftypcrx ", "camera raw"),
            (b"II*\0\x10\0\0\0CR\x02\0", "camera raw"),
            (b"FUJIFILMCCD-RAW 0201", "camera raw"),
            (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
            (b"\xef\xbb\xbf\n<svg xmlns=", "SVG"),
            (b"<?xml version=\"1.0\"?>\n<!-- x -->\n<svg", "SVG"),
            (b"\0\0\x02\0\x01\0\x20\x20\0\0", "Windows cursor"),
            (b"P7\nWIDTH 3", "PAM or PFM"),
            (&dicom, "DICOM"),
        ] {
            let kind = foreign_by_content(head).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(kind.name, name);
            assert!(kind.to_string().contains("FILE.") && kind.to_string().contains(name));
        }
        for other in [&b"<?xml version=\"1.0\"?><html>"[..], b"\0\0\0\x18ftypisom", b"hello", b""] {
            assert_eq!(foreign_by_content(other), None);
        }
    }
}
