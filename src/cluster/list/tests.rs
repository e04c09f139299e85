//! A list comes in pieces, and is read item by item.

use crate::cluster::list::ItemSplitter;

/// The items and the rest of a list that comes in pieces of this size.
fn split(text: &str, size: usize) -> (Vec<String>, String) {
    let mut splitter = ItemSplitter::default();
    let mut items = Vec::new();
    for piece in text.as_bytes().chunks(size) {
        splitter.feed(piece, |item| items.push(String::from_utf8(item.to_vec()).unwrap()));
    }
    (items, String::from_utf8(splitter.rest().to_vec()).unwrap())
}

#[test]
fn the_items_come_out_whole_however_the_list_is_cut() {
    let items = [
        r#"{"a":1}"#,
        r#"{"text":"}]{\"}\\","list":[[{}],{"b":{}}]}"#,
        r#"{"metadata":{"continue":"no"},"items":[{"c":[]}]}"#,
        "{}",
    ];
    let list = format!(
        r#"{{"apiVersion":"v1","items":[{}],"kind":"List","metadata":{{"continue":"[{{","shard":{{"d":[]}}}}}}"#,
        items.join(",")
    );
    for size in 1..list.len() {
        let (found, rest) = split(&list, size);
        assert_eq!(found, items, "in pieces of {size}");
        assert_eq!(
            rest,
            r#"{"apiVersion":"v1","items":[0,0,0,0],"kind":"List","metadata":{"continue":"[{","shard":{"d":[]}}}"#
        );
    }
}

#[test]
fn a_list_without_items_is_one() {
    for list in [r#"{"items":[],"metadata":{}}"#, r#"{"metadata":{},"items":null}"#] {
        assert_eq!(split(list, 3), (vec![], list.to_owned()));
    }
}

#[test]
fn no_depth_is_too_much() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let item = format!(r#"{{"body":{deep}}}"#);
    assert_eq!(split(&format!(r#"{{"items":[{item}]}}"#), 4_096).0, [item]);
}
