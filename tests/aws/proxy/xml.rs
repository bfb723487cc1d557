//! As much XML as EC2's answers need: elements by name, and lists of `<item>`.

/// Where the first element `name` begins and ends in `text`, and its content.
fn find<'a>(text: &'a str, name: &str) -> Option<(usize, &'a str, usize)> {
    let open = format!("<{name}>");
    let close = format!("</{name}>");
    let start = text.find(&open)?;
    let inner = start + open.len();
    // Elements of one name within each other only occur as `item`.
    let length = text.get(inner..)?.find(&close)?;
    Some((
        start,
        &text[inner..inner + length],
        inner + length + close.len(),
    ))
}

/// The content of the first element `name`.
pub(crate) fn content<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    find(text, name).map(|(_, inner, _)| inner)
}

/// `text` with the content of every element `name` replaced.
pub(crate) fn with_content(text: &str, name: &str, inner: &str) -> String {
    mapped(text, name, |_| inner.to_owned())
}

/// `text` with the content of every element `name` made anew from what it was.
pub(crate) fn mapped(text: &str, name: &str, mut made: impl FnMut(&str) -> String) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((start, inner, end)) = find(rest, name) {
        out.push_str(&rest[..start]);
        for part in ["<", name, ">", &made(inner), "</", name, ">"] {
            out.push_str(part);
        }
        rest = &rest[end..];
    }
    out + rest
}

/// The contents of the `<item>`s that stand directly in `list`.
pub(crate) fn items(list: &str) -> Vec<&str> {
    elements(list, "item")
}

/// The contents of the elements `name` that stand directly in `list`.
pub(crate) fn elements<'a>(list: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let (mut found, mut depth, mut begin, mut at) = (Vec::new(), 0_usize, 0, 0);
    while let Some(step) = list[at..].find('<') {
        at += step;
        if list[at..].starts_with(&open) {
            at += open.len();
            if depth == 0 {
                begin = at;
            }
            depth += 1;
        } else if list[at..].starts_with(&close) {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                found.push(&list[begin..at]);
            }
            at += close.len();
        } else {
            at += 1;
        }
    }
    found
}

/// Every instance id in `text`, in order of appearance, each once.
pub(crate) fn instance_ids(text: &str) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for part in text.split(">i-").skip(1) {
        let hex: String = part.chars().take_while(char::is_ascii_hexdigit).collect();
        let id = format!("i-{hex}");
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

#[test]
fn lists_within_lists_are_not_taken_apart() {
    let list = "<item>a<set><item>b</item><item/></set></item> <item>c</item>";
    assert_eq!(items(list), ["a<set><item>b</item><item/></set>", "c"]);
    assert_eq!(content("<a><b>1</b></a>", "b"), Some("1"));
    assert_eq!(
        with_content("<s>1</s>-<s>2</s>", "s", "x"),
        "<s>x</s>-<s>x</s>"
    );
    assert_eq!(
        instance_ids("<x>i-0a</x><x>i-0b</x><x>i-0a</x>"),
        ["i-0a", "i-0b"]
    );
}
