#!/bin/sh
# Makes every picture of README.md, docs/training.md and docs/your-own-photos.md again, from the
# digits inside the program.
#
#     cargo build --release && sh tools/pictures/make.sh
#
# Needs python3 (its own library only). Pictures of web pages are taken with chromium,
# chromium-browser or google-chrome, and left as they are where there is none. HEADSTART names another binary.
set -eu

repository=$(cd "$(dirname "$0")/../.." && pwd)
headstart=${HEADSTART:-$repository/target/release/headstart}
images=$repository/docs/img
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
hs() { "$headstart" "$@" >>log.txt 2>&1 || { tail -5 log.txt >&2; exit 1; }; }

# shot PAGE PICTURE WIDTH HEIGHT [FOLDER]: the top of a page, in docs/img/photos or another folder.
shot() {
    for browser in chromium chromium-browser google-chrome; do
        if command -v "$browser" >/dev/null; then
            # The profile is a folder of its own, so that a browser in use is left alone.
            "$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$work/profile" \
                --window-size="$3,$4" --screenshot="$work/$2" "file://$work/$1" >/dev/null 2>&1
            python3 "$repository/tools/pictures/palette.py" "$2" "${5:-$images/photos}/$2"
            return
        fi
    done
    echo "no browser: $2 is left as it is" >&2
}

mkdir -p "$images/photos"
# README.md and docs/training.md: what `headstart train` leaves.
hs train --out runs/train
shot runs/train/report.html report.png 1280 1450 "$images"
cp runs/train/accuracy.png runs/train/confusion_matrix.png "$images"
hs train --augment resized-crop:0.6,rotate:15,jitter,erase:0.3 --mixup 0.3 --show-batch "$images/batch.png"

# docs/your-own-photos.md, in its order.
net="--model resnet20 --weights cifar10 --interpolation bicubic"
python3 "$repository/tools/pictures/digits_folder.py" photos --with-mistakes
hs data check photos --labels $net --html check.html
shot check.html check.png 1000 1110
sed 's|</style>|main > :not(#labels) { display: none } section { margin: 0 !important }</style>|' check.html >labels.html
shot labels.html labels.png 1000 620
rm -r photos
python3 "$repository/tools/pictures/digits_folder.py" photos

augment="--augment resized-crop:0.8,rotate:10,erase:0.3"
hs train --data photos $net $augment --show-batch "$images/photos/batch.png" --batch-size 24
hs lr-find --data photos $net --fine-tune-at conv3 --optimizer adam --batch-size 32 --out "$images/photos/lr-find.png"
settings="$net --test-split 0.2 --optimizer adam --learning-rate 1e-2 --fine-tune-learning-rate 1e-3 --schedule cosine
    --batch-size 32 --epochs 10 --fine-tune-at conv3"
hs train --data photos $settings --fine-tune-epochs 6 --out runs/photos
hs train --data photos $settings --fine-tune-epochs 0 --out runs/head
for name in accuracy loss confusion_matrix reliability; do
    python3 "$repository/tools/pictures/palette.py" "runs/photos/$name.png" "$images/photos/$name.png"
done
hs compare runs/photos runs/head --out compared
cp compared/accuracy.png "$images/photos/compare.png"
hs evaluate runs/head/weights/best.safetensors --data photos --test-split 0.2 --gallery gallery.html
shot gallery.html gallery.png 1000 760
model=runs/photos/weights/best.safetensors
hs explain-image "$model" photos/three/0003.png --out "$images/photos/explain.png"
hs similar "$model" photos/three/0003.png --data photos --html similar.html
shot similar.html similar.png 1000 740
ls -l "$images" "$images/photos"
