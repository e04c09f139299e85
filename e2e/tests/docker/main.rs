//! docker-compose.yml and the Containerfiles on a real Docker engine. Needs Linux and root.

mod compose;
mod containerfiles;

use std::fs;
use std::path::Path;

use e2e::read;

/// Writes a file of this project without the digests of images, and returns the name of the first image.
/// The tests make images of these names themselves, with other digests.
fn without_digests(file: &str, to: &Path) -> String {
    const MARK: &str = "@sha256:";
    let text = read(file);
    let mut parts = text.split(MARK);
    let start = parts.next().expect("a text");
    let image = start.rsplit(' ').next().expect("an image").to_owned();
    let rest: String = parts.map(|part| &part[64..]).collect();
    fs::write(to, format!("{start}{rest}")).expect("it is written");
    image
}
