//! How Python spells a value inside a message for people: `str()` and `repr()` of what is no list or object.

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

use crate::json::{Value, write_float};
use crate::text::{Text, push_code_point};

/// `str()` of a value: text as it is, other things as `repr()`. Nothing for lists and objects.
pub(crate) fn str_of(value: &Value) -> Option<Text> {
    match value {
        Value::Text(text) => Some(text.clone()),
        other => repr_of(other),
    }
}

/// `repr()` of a value. Nothing for lists and objects.
pub(crate) fn repr_of(value: &Value) -> Option<Text> {
    Some(match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Int(int) => int.to_string().into(),
        Value::Float(float) if float.is_nan() => "nan".into(),
        Value::Float(f64::INFINITY) => "inf".into(),
        Value::Float(f64::NEG_INFINITY) => "-inf".into(),
        Value::Float(float) => {
            let mut out = Vec::new();
            write_float(*float, &mut out);
            Text::from_checked(out)
        }
        Value::Text(text) => repr_of_text(text),
        Value::List(_) | Value::Object(_) => return None,
    })
}

fn repr_of_text(text: &Text) -> Text {
    let has = |quote: u8| text.as_bytes().contains(&quote);
    let quote = if has(b'\'') && !has(b'"') { '"' } else { '\'' };
    let mut out = vec![quote as u8];
    for point in text.code_points() {
        match char::from_u32(point) {
            Some(c) if c == quote || c == '\\' => out.extend([b'\\', c as u8]),
            Some('\t') => out.extend_from_slice(b"\\t"),
            Some('\n') => out.extend_from_slice(b"\\n"),
            Some('\r') => out.extend_from_slice(b"\\r"),
            Some(c) if is_printable(c) => push_code_point(&mut out, point),
            _ if point <= 0xff => out.extend_from_slice(format!("\\x{point:02x}").as_bytes()),
            _ if point <= 0xffff => out.extend_from_slice(format!("\\u{point:04x}").as_bytes()),
            _ => out.extend_from_slice(format!("\\U{point:08x}").as_bytes()),
        }
    }
    out.push(quote as u8);
    Text::from_checked(out)
}

/// What Python calls printable: all but separators other than the space, and what has no shape.
fn is_printable(c: char) -> bool {
    use GeneralCategory::*;
    let shapeless = matches!(
        c.general_category(),
        Control
            | Format
            | Surrogate
            | PrivateUse
            | Unassigned
            | LineSeparator
            | ParagraphSeparator
            | SpaceSeparator
    );
    c == ' ' || !shapeless
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    #[test]
    fn values_as_python_shows_them() {
        let cases = [
            ("null", "None"),
            ("true", "True"),
            ("[1e400,1]", ""),
            ("-1e400", "-inf"),
            ("1e22", "1e+22"),
            (r#""it's""#, r#""it's""#),
            (r#""it's \"so\"""#, r#"'it\'s "so"'"#),
            (
                r#""\u00ad\u2028\ud800\ue000\\\n\u007f é😀\udbff\udfff""#,
                r"'\xad\u2028\ud800\ue000\\\n\x7f é😀\U0010ffff'",
            ),
        ];
        for (json, expected) in cases {
            let shown = repr_of(&parse(json.as_bytes()).unwrap()).unwrap_or_default();
            assert_eq!(shown, expected, "{json}");
        }
    }
}
