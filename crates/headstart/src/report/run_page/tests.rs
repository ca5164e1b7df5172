//! What a run's page has, whatever the names.

use super::*;
use crate::data::image::{Rgb8, Window};
use crate::measure::epoch::{EpochRecord, PhaseName};
use crate::study::gradcam::Heat;
use crate::study::hard::{HardImage, Section};

const EVIL: &str = "<img src=x onerror=alert(1)>&'\"";

static NO_EPOCHS: History = History { epochs: Vec::new() };

fn epoch(number: usize) -> EpochRecord {
    EpochRecord {
        epoch: number,
        phase: PhaseName::Head,
        seconds: 1.0,
        images_per_second: 9.0,
        loss: 0.5,
        accuracy: 0.75,
        val_loss: Some(0.625),
        val_accuracy: Some(0.6875),
        learning_rate: 1e-3,
        val_macro_f1: None,
    }
}

fn hard(side: usize) -> HardImages {
    let values = vec![0.0, 0.1, 0.2, 4.0];
    let heat = |class| Heat {
        height: 2,
        width: 2,
        values: values.clone(),
        class,
        probabilities: vec![0.25, 0.75],
        window: Window::WHOLE,
    };
    let image = HardImage {
        name: format!("test/{EVIL}/1.jpg"),
        image: Rgb8::new(side, side, vec![90; side * side * 3]).unwrap(),
        label: 0,
        predicted: 1,
        other: 0,
        probabilities: vec![0.25, 0.75],
        maps: Some([heat(1), heat(0)]),
    };
    let sections = vec![
        Section { title: "Worst mistakes (1 of 1)".into(), images: vec![0] },
        Section { title: format!("{EVIL} predicted as dog (1)"), images: vec![0] },
    ];
    HardImages { images: vec![image], sections }
}

fn html(change: impl FnOnce(&mut RunPage<'_>)) -> String {
    let classes = [EVIL.to_string(), "dog".to_string()];
    let report = Report::new("test", &classes, &[0.25, 0.75, 0.1, 0.9, 0.4, 0.6], &[0, 1, 1]);
    let history = History { epochs: vec![epoch(1), epoch(2)] };
    let (notes, hard) = (CurveNotes::default(), hard(24));
    let facts = [("data".to_string(), format!("photos of {EVIL}"))];
    let settings =
        ["--recipe auto".to_string(), format!("--data '{EVIL}'"), "no fine-tune-at".into()];
    let next = [("use it".to_string(), format!("headstart predict '{EVIL}'"))];
    let mut page = RunPage {
        title: EVIL,
        lead: EVIL,
        facts: &facts,
        settings: &settings,
        report: Some(&report),
        history: &history,
        notes: &notes,
        stopped: false,
        shipped: Some(1),
        hard: Some(&hard),
        next: &next,
    };
    change(&mut page);
    page.html().unwrap()
}

/// What a page is made from lives as long as the test's own parts.
fn kept<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// The page without pictures and script.
fn text(html: &str) -> String {
    let (before, after) = html.split_once("<script>").unwrap();
    let after = after.split_once("</script>").unwrap().1;
    format!("{before}{after}")
}

#[test]
fn epochs_show_the_macro_f1_that_they_have() {
    let with = |f1: [Option<f64>; 2]| {
        let epochs = [1, 2].map(|n| EpochRecord { val_macro_f1: f1[n - 1], ..epoch(n) }).to_vec();
        html(|page| page.history = kept(History { epochs }))
    };
    let without = with([None, None]);
    assert!(without.contains("colspan=\"2\">validation") && !without.contains(">macro F1</th>"));
    let page = with([Some(0.5625), None]);
    assert!(page.contains("colspan=\"3\">validation") && page.contains(">macro F1</th>"));
    assert!(page.contains("<td>0.6875</td><td>0.5625</td><td>0.6250</td>"), "{page}");
    assert!(page.contains("<td>0.6875</td><td>none</td><td>0.6250</td>"), "{page}");
}

#[test]
fn the_page_has_every_part_and_no_name_leaves_its_place() {
    let html = html(|_| {});
    let page = text(&html);
    assert!(!page.contains("<img src=x") && page.contains("&lt;img src=x onerror=alert(1)&gt;"));
    for id in ["run", "next", "classes", "confusion", "curves", "calibration", "images"] {
        assert_eq!(page.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
    }
    let found = "macro average|weighted average|majority-class baseline|0.6667|95%: |support|shipped: epoch 1 (head)|\
                 <li><code><span>--recipe</span> auto</code></li>|<li>no fine-tune-at</li>|last: epoch 2 (head)|expected calibration error|Confused most often|predicted, 75.0%|true, 25.0%";
    for part in found.split('|') {
        assert!(page.contains(part), "{part}");
    }
    // Nothing is fetched.
    for tag in page.split("src=\"").skip(1).chain(page.split("href=\"").skip(1)) {
        assert!(tag.starts_with("data:image/") || tag.starts_with('#'), "{}", &tag[..20]);
    }
    assert!(
        !html.contains("http")
            || html.matches("http").count() == html.matches("http-equiv").count()
    );
}

#[test]
fn headings_follow_each_other_and_pictures_say_what_they_show() {
    let html = html(|_| {});
    let levels: Vec<u8> = html
        .split("<h")
        .skip(1)
        .filter_map(|tag| tag.as_bytes().first().filter(|b| (b'1'..=b'6').contains(b)).copied())
        .collect();
    assert_eq!(levels[0], b'1');
    assert!(levels.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{levels:?}");
    for tag in html.split("<img").skip(1).filter(|tag| !tag.starts_with(" src=x")) {
        assert!(tag.contains("alt=\"") && !tag.contains("alt=\"\""));
    }
    for tag in html.split("<svg").skip(1) {
        assert!(tag.contains("role=\"img\" aria-label=\""));
    }
}

#[test]
fn an_image_is_in_the_page_once_however_often_it_is_shown() {
    for (side, kind) in [(24, "data:image/png"), (200, "data:image/jpeg")] {
        let own = hard(side);
        let html = super::super::gallery("net", &report(), &own).unwrap();
        assert_eq!((html.matches(kind).count(), html.matches("<image").count()), (1, 1));
        assert_eq!(html.matches("href=\"#image0\"").count(), 5);
        assert!(html.matches("<path stroke=").count() >= 12);
    }
}

fn report() -> Report {
    let classes = [EVIL.to_string(), "dog".to_string()];
    Report::new("test", &classes, &[0.25, 0.75], &[0])
}

#[test]
fn runs_without_images_held_out_or_epochs_have_a_page() {
    let html = html(|page| {
        (page.report, page.hard) = (None, None);
        page.history = &NO_EPOCHS;
    });
    assert!(html.contains("id=\"run\"") && !html.contains("id=\"classes\""));
    assert!(!html.contains("id=\"curves\"") && !html.contains("id=\"images\""));
}

#[test]
fn one_epoch_is_drawn_too() {
    let pictures = |epochs: Vec<EpochRecord>| {
        let history = kept(History { epochs });
        let html = html(|page| page.history = history);
        let own = html.split("id=\"curves\"").nth(1).unwrap().split("</section>").next().unwrap();
        assert!(own.contains("shipped: epoch 1 (head)"), "{own}");
        own.matches("<img").count()
    };
    assert_eq!(pictures(vec![epoch(1)]), 2);
    assert_eq!(pictures(vec![epoch(1), epoch(2)]), 2);
}

#[test]
fn long_parts_are_closed_and_say_what_is_in_them() {
    let classes: Vec<String> = (0..21).map(|i| format!("class {i}")).collect();
    // The first class is always taken for the last.
    let p: Vec<f32> = (0..21 * 21)
        .map(|at| match (at / 21, at % 21) {
            (0, column) => f32::from(column == 20),
            (row, column) => f32::from(column == row),
        })
        .collect();
    let labels: Vec<usize> = (0..21).collect();
    let many = kept(Report::new("test", &classes, &p, &labels));
    let page = html(|page| page.report = Some(many));
    let table = page.split("id=\"classes\"").nth(1).unwrap().split("</section>").next().unwrap();
    let (open, closed) = table.split_once("<details>").unwrap();
    assert!(open.contains("The 8 classes with the lowest F1"), "{open}");
    assert!(open.contains(">class 0<") && !open.contains(">class 9<"), "{open}");
    assert!(closed.contains("<summary>All 21 classes</summary>") && closed.contains(">class 9<"));
    let few = html(|_| {});
    let table = few.split("id=\"classes\"").nth(1).unwrap().split("</section>").next().unwrap();
    assert!(!table.contains("<details>"));
    // Four images stand open.
    let mut more = hard(24);
    more.images = vec![more.images[0].clone(); 7];
    more.sections[0].images = (0..6).collect();
    more.sections[1].images = vec![6];
    let more = kept(more);
    let page = html(|page| page.hard = Some(more));
    let images = page.split("id=\"images\"").nth(1).unwrap();
    let (open, closed) = images.split_once("<details>").unwrap();
    assert_eq!((open.matches("<figure>").count(), closed.matches("<figure>").count()), (4, 3));
    assert!(
        closed.contains(">2 more</summary>") && closed.contains("predicted as dog (1)</summary>")
    );
}
