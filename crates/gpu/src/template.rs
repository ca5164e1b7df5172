//! Variants of a WGSL file. A line that begins with `//!` is a directive over the variant's settings:
//!
//! ```text
//! //! if NAME | //! if !NAME      the lines up to `//! else` or `//! end`, where the setting is (not) above 0
//! //! for i NAME                  the lines up to `//! end`, with `{i}` from 0 to below the setting
//! //! for e x y z w               the same with `{e}` one word after the other
//! ```
//!
//! Every setting is also a constant of that name. Loops over registers are written so, because a loop that is left to the
//! driver may put its sums into memory.
//!
//! A setting in small letters, `x`, says how tensors are stored, as a [`Store`]: `{x}` is the type of their elements,
//! `{wide_x}(value)` what was loaded as f32, `{near_x}(value)` the f32 as it is stored, and `{wide4_x}`, `{near4_x}` are the
//! same for four. Where all are f32 these are nothing but brackets.

use std::fmt::Write;

use crate::memory::Store;

/// A setting of a variant: its name and value.
pub type Setting = (&'static str, u32);

/// The text of a variant.
///
/// # Errors
/// If a directive is not as above, or names a setting that is not there.
pub fn expand(source: &str, settings: &[Setting]) -> Result<String, String> {
    let mut text = String::new();
    let (stores, constants): (Vec<Setting>, Vec<Setting>) =
        settings.iter().partition(|(name, _)| name.starts_with(|c: char| c.is_ascii_lowercase()));
    let half = |value: u32| value == Store::F16 as u32;
    if stores.iter().any(|store| half(store.1)) {
        text.push_str("enable f16;\n");
    }
    for (name, value) in constants {
        let _ = writeln!(text, "const {name}: u32 = {value}u;");
    }
    let words: Vec<(String, &str)> = stores
        .into_iter()
        .flat_map(|(name, value)| {
            let words = if half(value) { HALF } else { SINGLE };
            let prefixes = ["", "wide_", "wide4_", "near_", "near4_"].into_iter();
            prefixes.zip(words).map(move |(prefix, word)| (format!("{prefix}{name}"), word))
        })
        .collect();
    let words: Vec<(&str, String)> =
        words.iter().map(|(name, word)| (&name[..], (*word).to_string())).collect();
    let lines: Vec<&str> = source.lines().collect();
    emit(&lines, &words, settings, &mut text)?;
    Ok(text)
}

/// A store's type, and its conversions from it and to it, of one element and of four.
const SINGLE: [&str; 5] = ["f32", "", "", "", ""];
const HALF: [&str; 5] = ["f16", "f32", "vec4<f32>", "f16", "vec4<f16>"];

fn emit(
    lines: &[&str],
    variables: &[(&str, String)],
    settings: &[Setting],
    text: &mut String,
) -> Result<(), String> {
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let Some(words) = directive(line) else {
            let replaced = variables.iter().fold((*line).to_string(), |line, (name, value)| {
                line.replace(&format!("{{{name}}}"), value)
            });
            text.push_str(&replaced);
            text.push('\n');
            at += 1;
            continue;
        };
        let (other, end) = ends(&lines[at + 1..]).ok_or_else(|| format!("no end of `{line}`"))?;
        let body = &lines[at + 1..];
        let value = |name: &str| {
            let found = settings.iter().find(|s| s.0 == name).map(|s| s.1);
            found.ok_or_else(|| format!("`{line}` names no setting"))
        };
        match words[..] {
            ["if", name] => {
                let (not, name) = match name.strip_prefix('!') {
                    Some(name) => (true, name),
                    None => (false, name),
                };
                match (value(name)? > 0) != not {
                    true => emit(&body[..other.unwrap_or(end)], variables, settings, text)?,
                    false => {
                        let rest = other.map_or(end, |other| other + 1);
                        emit(&body[rest..end], variables, settings, text)?;
                    }
                }
            }
            ["for", variable, ref values @ ..] if !values.is_empty() && other.is_none() => {
                let values: Vec<String> = match values {
                    [name] => (0..value(name)?).map(|i| i.to_string()).collect(),
                    words => words.iter().map(ToString::to_string).collect(),
                };
                for value in values {
                    let mut inner = variables.to_vec();
                    inner.push((variable, value));
                    emit(&body[..end], &inner, settings, text)?;
                }
            }
            _ => return Err(format!("`{line}` is no directive")),
        }
        at += end + 2;
    }
    Ok(())
}

fn directive(line: &str) -> Option<Vec<&str>> {
    line.trim_start().strip_prefix("//!").map(|rest| rest.split_whitespace().collect())
}

/// Where, after an opening line, its `else` and its `end` are.
fn ends(lines: &[&str]) -> Option<(Option<usize>, usize)> {
    let (mut depth, mut other) = (0, None);
    for (i, line) in lines.iter().enumerate() {
        match directive(line).as_deref() {
            Some(["if" | "for", ..]) => depth += 1,
            Some(["else"]) if depth == 0 => other = Some(i),
            Some(["end"]) if depth == 0 => return Some((other, i)),
            Some(["end"]) => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_choose_and_repeat() {
        let source = "a\n//! if X\nb\n//! for i N\n//! for e x y\nc{i}{e}\n//! end\n//! end\n//! else\nd\n//! end\ne";
        let with = |x| expand(source, &[("X", x), ("N", 2)]).unwrap();
        let head = |x| format!("const X: u32 = {x}u;\nconst N: u32 = 2u;\n");
        assert_eq!(with(1), format!("{}a\nb\nc0x\nc0y\nc1x\nc1y\ne\n", head(1)));
        assert_eq!(with(0), format!("{}a\nd\ne\n", head(0)));
        assert_eq!(
            expand("//! if !X\na\n//! end", &[("X", 0)]).unwrap(),
            "const X: u32 = 0u;\na\n"
        );
    }

    #[test]
    fn stores_are_types_and_conversions() {
        let source =
            "array<{x}>, array<vec4<{y}>>\na = {wide_x}(b[{i}]);\nc[i] = {near4_y}({wide4_y}(d));";
        let with = |x: Store, y: Store| {
            expand(source, &[("x", x as u32), ("N", 1), ("y", y as u32)]).unwrap()
        };
        let plain =
            "const N: u32 = 1u;\narray<f32>, array<vec4<f32>>\na = (b[{i}]);\nc[i] = ((d));\n";
        assert_eq!(with(Store::F32, Store::F32), plain);
        let mixed = "enable f16;\nconst N: u32 = 1u;\narray<f32>, array<vec4<f16>>\na = (b[{i}]);\nc[i] = vec4<f16>(vec4<f32>(d));\n";
        assert_eq!(with(Store::F32, Store::F16), mixed);
        assert!(
            with(Store::F16, Store::F32).contains("array<f16>, array<vec4<f32>>\na = f32(b[{i}]);")
        );
    }

    #[test]
    fn what_is_no_directive_is_an_error() {
        for bad in
            ["//! if X\na", "//! if Y\n//! end", "//! while X\n//! end", "//! for i\n//! end"]
        {
            assert!(expand(bad, &[("X", 1)]).is_err(), "{bad}");
        }
    }
}
