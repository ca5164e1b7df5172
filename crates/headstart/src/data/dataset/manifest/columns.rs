//! Which columns of a table hold what, by their names.

use super::Table;
use crate::data::dataset::tree::{Part, part_of};
use crate::text::shortened;

/// Names that each column may have; the first is used in messages, and earlier ones are taken before later ones.
pub(super) const PATH: &[&str] = &[
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "image",
    "file_path",
    "filepaths",
    "image_path",
    "img_path",
    "image_name",
    "image_file",
    "fname",
    "img",
    "image_id",
];
pub(super) const LABEL: &[&str] =
    &["label", "class", "category", "labels", "class_name", "label_name", "classname", "target"];
/// Columns of splits.
const SPLIT: &[&str] = &["split", "subset", "partition"];
/// Columns that are of splits where all their cells are.
const PERHAPS: &[&str] = &["dataset", "set", "fold", "phase", "usage", "part"];
/// Columns that are true for images of one part.
const FLAGS: &[(&str, Part)] = &[
    ("is_valid", Part::Validation),
    ("is_val", Part::Validation),
    ("is_validation", Part::Validation),
    ("valid", Part::Validation),
    ("val", Part::Validation),
    ("validation", Part::Validation),
    ("is_test", Part::Test),
    ("is_testing", Part::Test),
    ("test", Part::Test),
    ("is_train", Part::Train),
    ("is_training", Part::Train),
    ("is_training_image", Part::Train),
    ("train", Part::Train),
    ("training", Part::Train),
];

/// Which columns hold path and label, and how a row's split is known.
pub(super) struct Columns {
    pub path: usize,
    pub label: usize,
    pub split: Split,
}

/// How a row's split is known.
pub(super) enum Split {
    None,
    Column(usize),
    /// Of splits, if every cell is.
    Perhaps(usize),
    /// Columns that are each true for the images of a part.
    Flags(Vec<(usize, Part)>),
}

/// Whether a column's name is this known one, written with other letters, spaces or hyphens.
fn is_named(name: &str, known: &str) -> bool {
    let plain = |c: char| if matches!(c, '-' | ' ') { '_' } else { c.to_ascii_lowercase() };
    name.trim().chars().map(plain).eq(known.chars())
}

/// The first column of this name.
pub(super) fn position(names: &[String], known: &str) -> Option<usize> {
    names.iter().position(|name| is_named(name, known))
}

/// All columns of one of these names, in the order of the names.
fn positions(names: &[String], known: &[&str]) -> Vec<usize> {
    let of = |known| names.iter().enumerate().filter(move |(_, name)| is_named(name, known));
    known.iter().flat_map(|known| of(known).map(|(at, _)| at)).collect()
}

/// The columns of a table; `None` if there is none for paths or none for labels.
pub(super) fn columns(names: &[String]) -> Option<Columns> {
    let find = |known: &[&str]| positions(names, known).first().copied();
    let (path, label) = (find(PATH)?, find(LABEL)?);
    let flags = || {
        let all = FLAGS.iter().flat_map(|&(known, part)| {
            positions(names, &[known]).into_iter().map(move |at| (at, part))
        });
        Some(all.collect::<Vec<_>>()).filter(|all| !all.is_empty()).map(Split::Flags)
    };
    let perhaps = || find(PERHAPS).map(Split::Perhaps);
    let split = find(SPLIT).map(Split::Column).or_else(flags).or_else(perhaps);
    Some(Columns { path, label, split: split.unwrap_or(Split::None) })
}

impl Columns {
    /// Warnings of columns that may be meant too, beside those that are used.
    pub fn warnings(&self, names: &[String]) -> Vec<String> {
        let mut warnings = Vec::new();
        for (what, own, known) in
            [("where the images are", self.path, PATH), ("what the label is", self.label, LABEL)]
        {
            let others = positions(names, known).into_iter().filter(|&at| at != own);
            let others = list(names, others);
            if !others.is_empty() {
                warnings.push(format!(
                    "columns that may say {what}, and are not used, as {} is: {others}; leave out those that are not meant",
                    name(names, own)
                ));
            }
        }
        let own = self.split.columns();
        let known: Vec<&str> = SPLIT
            .iter()
            .chain(FLAGS.iter().map(|(name, _)| name))
            .chain(PERHAPS)
            .copied()
            .collect();
        let others = positions(names, &known).into_iter().filter(|at| !own.contains(at));
        let others = list(names, others);
        if !own.is_empty() && !others.is_empty() {
            warnings.push(format!(
                "columns that may say how the images are split, and are not used, as {} is: {others}",
                list(names, own)
            ));
        }
        warnings
    }

    /// Other columns that may hold the paths.
    pub fn other_paths(&self, names: &[String]) -> String {
        list(names, positions(names, PATH).into_iter().filter(|&at| at != self.path))
    }
}

/// Columns that are not used, as long as every cell is empty or names a part of the data.
pub(super) struct Unused {
    columns: Vec<usize>,
    /// Those with cells that are not empty.
    filled: Vec<usize>,
    used: bool,
}

impl Unused {
    pub fn new(names: &[String], columns: &Columns, group: Option<usize>) -> Unused {
        let own = columns.split.columns();
        let used = |at: &usize| {
            [columns.path, columns.label].contains(at) || own.contains(at) || group == Some(*at)
        };
        let columns = (0..names.len()).filter(|at| !used(at)).collect();
        Unused { columns, filled: Vec::new(), used: !own.is_empty() }
    }

    /// Looks at the cells of a row.
    pub fn look(&mut self, cell: &dyn Fn(usize) -> String) {
        let filled = &mut self.filled;
        self.columns.retain(|&at| {
            let text = cell(at);
            if !text.is_empty() && !filled.contains(&at) {
                filled.push(at);
            }
            text.is_empty() || part_of(&text).is_some()
        });
    }

    /// A warning of those that are left.
    pub fn warning(&self, names: &[String]) -> Option<String> {
        let left: Vec<usize> =
            self.columns.iter().copied().filter(|at| self.filled.contains(at)).collect();
        // Those of known names are named with the column that is used.
        let known: Vec<&str> = SPLIT
            .iter()
            .chain(PERHAPS)
            .chain(FLAGS.iter().map(|(name, _)| name))
            .copied()
            .collect();
        let known = if self.used { positions(names, &known) } else { Vec::new() };
        let left: Vec<usize> = left.into_iter().filter(|at| !known.contains(at)).collect();
        (!left.is_empty()).then(|| {
            let what = list(names, left.iter().copied());
            format!("all cells of {what} are words such as train and test, and are not used; a column that splits the images is called split")
        })
    }
}

/// The name of a column, with its place where others have the same.
fn name(names: &[String], at: usize) -> String {
    let own = shortened(names[at].trim());
    match names.iter().filter(|name| name.trim() == names[at].trim()).count() {
        0 | 1 => own.into_owned(),
        _ => format!("{own} (column {})", at + 1),
    }
}

fn list(names: &[String], at: impl IntoIterator<Item = usize>) -> String {
    at.into_iter().map(|at| name(names, at)).collect::<Vec<_>>().join(", ")
}

impl Split {
    /// The columns that are read for it.
    pub fn columns(&self) -> Vec<usize> {
        match self {
            Split::None => Vec::new(),
            Split::Column(at) | Split::Perhaps(at) => vec![*at],
            Split::Flags(flags) => flags.iter().map(|flag| flag.0).collect(),
        }
    }

    /// The text of the split of row number `row`, whose cells these are.
    ///
    /// # Errors
    /// If a flag is neither true nor false, or they contradict each other.
    pub fn of_row(
        &self,
        names: &[String],
        row: usize,
        cell: &dyn Fn(usize) -> String,
    ) -> Result<Option<String>, String> {
        match self {
            Split::None => Ok(None),
            Split::Column(at) | Split::Perhaps(at) => {
                Ok(Some(cell(*at)).filter(|text| !text.is_empty()))
            }
            Split::Flags(flags) => {
                let mut own: Option<(usize, Part)> = None;
                for &(at, part) in flags {
                    let text = cell(at);
                    let is = truth(&text).ok_or_else(|| {
                        let name = name(names, at);
                        format!(
                            "{:?} in column {name}, row {row}, not true or false",
                            shortened(&text)
                        )
                    })?;
                    match own {
                        Some((other, before)) if is && before != part => {
                            let (a, b) = (name(names, other), name(names, at));
                            return Err(format!("both {a} and {b} true in row {row}"));
                        }
                        _ if is => own = Some((at, part)),
                        _ => {}
                    }
                }
                let part = match own {
                    Some((_, part)) => part,
                    None => unflagged(flags).ok_or_else(|| {
                        let all = list(names, flags.iter().map(|flag| flag.0));
                        format!("none of {all} true in row {row}")
                    })?,
                };
                Ok(Some(part.name().to_string()))
            }
        }
    }

    /// Takes the splits back where cells of a column that perhaps says them do not.
    pub fn settle(&self, names: &[String], table: &mut Table) {
        let Split::Perhaps(at) = *self else { return };
        let cells = table.rows.iter().filter_map(|row| row.split.as_deref());
        let odd = cells.filter(|cell| part_of(cell).is_none()).map(String::from).next();
        if let Some(odd) = odd {
            table.rows.iter_mut().for_each(|row| row.split = None);
            table.warnings.push(format!(
                "the column {} may say how the images are split, but {:?} is none of train, validation and test: it is not used",
                name(names, at),
                shortened(&odd)
            ));
        }
    }
}

/// What the cell of a flag says; an empty one is false.
fn truth(cell: &str) -> Option<bool> {
    match cell.to_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" | "1.0" => Some(true),
        "" | "false" | "f" | "no" | "n" | "0" | "0.0" => Some(false),
        _ => None,
    }
}

/// The part of images for which no flag is true: the one that has no column. Where both others have none beside a column for
/// training, they are for testing. `None` where every part has a column.
fn unflagged(flags: &[(usize, Part)]) -> Option<Part> {
    let parts = [Part::Train, Part::Test, Part::Validation];
    parts.into_iter().find(|part| flags.iter().all(|flag| flag.1 != *part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(header: &str, cells: &str) -> Result<Option<String>, String> {
        let names: Vec<String> = header.split(',').map(String::from).collect();
        let cells: Vec<&str> = cells.split(',').collect();
        let columns = columns(&names).unwrap();
        columns.split.of_row(&names, 7, &|at| cells[at].to_string())
    }

    #[test]
    fn flags_say_the_split_each_for_its_part() {
        for (flags, cells, part) in [
            ("is_train", "True", "train"),
            ("is_train", "False", "test"),
            ("Is Training", "0", "test"),
            ("train", "1.0", "train"),
            ("is_valid", "yes", "validation"),
            ("is-valid", "no", "train"),
            ("is_test", "t", "test"),
            ("is_test", "", "train"),
            ("is_train,is_valid", "0,1", "validation"),
            ("is_train,is_valid", "0,0", "test"),
            ("is_train,is_test", "false,false", "validation"),
            ("is_val,is_test", "0,0", "train"),
            ("is_val,is_test", "0,1", "test"),
            ("train,val,test", "0,1,0", "validation"),
        ] {
            let found = split(&format!("path,label,{flags}"), &format!("x,y,{cells}"));
            assert_eq!(found, Ok(Some(part.to_string())), "{flags} {cells}");
        }
        for (flags, cells, said) in [
            ("is_train", "maybe", "\"maybe\" in column is_train, row 7"),
            ("is_train,is_test", "1,1", "both is_test and is_train true in row 7"),
            ("train,val,test", "0,0,0", "none of val, test, train true in row 7"),
        ] {
            let found = split(&format!("path,label,{flags}"), &format!("x,y,{cells}"));
            assert!(found.as_ref().is_err_and(|e| e.contains(said)), "{found:?}");
        }
    }

    #[test]
    fn columns_that_may_be_meant_too_are_named() {
        let warned = |header: &str| {
            let names: Vec<String> = header.split(',').map(String::from).collect();
            columns(&names).unwrap().warnings(&names).join("; ")
        };
        assert_eq!(warned("path,label"), "");
        assert_eq!(warned("id,filename,class,is_train,is_test"), "");
        for (header, parts) in [
            ("image,filename,label", &["where the images are", "as filename is: image"][..]),
            ("path,label,class", &["what the label is", "as label is: class"]),
            ("path,path,label", &["as path (column 1) is: path (column 2)"]),
            ("path,label,split,is_train", &["as split is: is_train"]),
        ] {
            let text = warned(header);
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
    }
}
