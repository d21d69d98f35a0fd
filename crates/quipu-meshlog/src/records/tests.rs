use proptest::prelude::*;

use super::*;
use crate::clock::Stamp;
use crate::event::Body;

fn event(author: &str, seq: u64, stamp: (i64, i64), kind: &str, payload: Value) -> Arc<Event> {
    let stamp = Stamp::new(stamp.0, stamp.1);
    let body = Body {
        author: author.into(),
        seq,
        stamp,
        kind: kind.into(),
        payload: payload.into(),
        prev: None,
    };
    Arc::new(Event::new(body))
}

fn view(records: &Records) -> String {
    let mut out = Vec::new();
    records.write_json(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The fold as meshlogd does it: all events in order, one after the other, into plain values.
fn folded_at_once(events: &[Arc<Event>]) -> String {
    let mut events: Vec<_> = events.to_vec();
    events.sort_by(|a, b| fold_order(a, b));
    let mut records: BTreeMap<Text, BTreeMap<&str, Value>> = BTreeMap::new();
    let mut fields: BTreeMap<Text, BTreeMap<Text, Value>> = BTreeMap::new();
    let mut lists: BTreeMap<(Text, bool), Vec<Value>> = BTreeMap::new();
    for event in &events {
        let Some((id, change)) = change_of(event) else { continue };
        let id = Text::from_checked_slice(&id);
        let record = records.entry(id.clone()).or_default();
        let get = |key: &str| event.payload.get(key).cloned();
        match change {
            Change::Create => {
                for (to, from) in [("form", "form"), ("created_by", "by")] {
                    get(from).map(|value| record.insert(to, value));
                }
            }
            Change::Set(field) => {
                let value = get("value").unwrap();
                fields
                    .entry(id.clone())
                    .or_default()
                    .insert(Text::from_checked_slice(&field), value);
            }
            Change::Note => {
                lists.entry((id.clone(), false)).or_default().push(get("text").unwrap());
            }
            Change::Attach => {
                let shown = Value::object([
                    ("field", get("field").unwrap()),
                    ("blob_hash", get("blob_hash").unwrap()),
                    ("size", get("size").unwrap_or(0u64.into())),
                    ("mime", get("mime").unwrap_or("".into())),
                ]);
                lists.entry((id.clone(), true)).or_default().push(shown);
            }
        }
    }
    let mut shown = Object::default();
    for (id, record) in records {
        let get = |key| record.get(key).cloned().unwrap_or("".into());
        let mut attachments = lists.remove(&(id.clone(), true)).unwrap_or_default();
        attachments.sort_by_key(|one| {
            ["field", "blob_hash"].map(|key| one.get(key).and_then(Value::as_text).cloned())
        });
        let of_fields =
            Object::from_pairs(fields.remove(&id).unwrap_or_default().into_iter().collect());
        let record = Value::object([
            ("record_id", (&id).into()),
            ("form", get("form")),
            ("created_by", get("created_by")),
            ("fields", of_fields.into()),
            ("attachments", Value::List(attachments)),
            ("notes", Value::List(lists.remove(&(id.clone(), false)).unwrap_or_default())),
        ]);
        shown.push_text(id, record);
    }
    String::from_utf8(json::to_bytes(&Value::Object(shown), Style::Canonical)).unwrap()
}

/// An event with few authors, records, fields and clocks, so that everything collides.
fn any_event() -> impl Strategy<Value = (usize, (i64, i64), usize, [usize; 3])> {
    (0..4usize, (0..4i64, 0..2i64), 0..7usize, [0..3usize, 0..3usize, 0..5usize])
}

fn payload(kind: usize, [record, field, hole]: [usize; 3]) -> (&'static str, Value) {
    let record_id = ["R-1", "R-2", "é"][record];
    let text = |name: usize| Value::from(["a", "b", "c"][name]);
    let (name, mut pairs) = match kind {
        0 => (CREATE, vec![("form", text(field)), ("by", text(record))]),
        1 | 2 => (SET, vec![("field", text(field)), ("value", (hole as u64).into())]),
        3 => (NOTE, vec![("text", text(field))]),
        4 => (
            ATTACH,
            vec![("field", text(field)), ("blob_hash", text(hole % 3)), ("size", 7u64.into())],
        ),
        5 => (
            ATTACH,
            vec![("field", text(field)), ("blob_hash", text(hole % 3)), ("mime", "m".into())],
        ),
        _ => ("field.unset", vec![("field", text(field))]),
    };
    // Some lack what they need.
    if hole == 4 {
        pairs.remove(0);
    }
    pairs.push(("record_id", record_id.into()));
    (
        name,
        Value::Object(Object::from_pairs(pairs.into_iter().map(|(k, v)| (k.into(), v)).collect())),
    )
}

proptest! {
    #[test]
    fn the_order_of_arrival_does_not_matter(
        drawn in proptest::collection::vec(any_event(), 0..60),
        shuffled in any::<prop::sample::Selector>(),
    ) {
        let authors = ["a", "b", "ab", "\u{10000}"];
        let mut seqs = [0; 4];
        let events: Vec<_> = drawn.into_iter().map(|(author, stamp, kind, choices)| {
            seqs[author] += 1;
            let (kind, payload) = payload(kind, choices);
            event(authors[author], seqs[author], stamp, kind, payload)
        }).collect();
        let expected = folded_at_once(&events);
        let mut records = Records::default();
        let mut applied: Vec<Arc<Event>> = Vec::new();
        let mut rest = events;
        while !rest.is_empty() {
            let at = shuffled.select(0..rest.len());
            let one = rest.swap_remove(at);
            records.apply(&one);
            applied.push(one);
            // After each single event, it is what a fold of all says.
            if applied.len().is_multiple_of(7) {
                prop_assert_eq!(view(&records), folded_at_once(&applied));
            }
        }
        prop_assert_eq!(&view(&records), &expected);
        let values: Vec<_> = records.iter().map(|(id, record)| (id.clone(), record.to_value(id))).collect();
        let values = Value::Object(Object::from_pairs(values));
        prop_assert_eq!(String::from_utf8(json::to_bytes(&values, Style::Canonical)).unwrap(), expected);
    }
}

fn set(seq: u64, record: &str, field: &str, value: Value) -> Arc<Event> {
    let payload =
        Value::object([("record_id", record.into()), ("field", field.into()), ("value", value)]);
    event("a", seq, (seq as i64, 0), SET, payload)
}

fn sample() -> Records {
    let point = |text: &str| json::parse(text.as_bytes()).unwrap();
    Records::of(&[
        set(1, "R-1", "status", "OPEN, \"new\"".into()),
        set(2, "R-1", "where", point(r#"{"type":"Point","coordinates":[13.4,52.5,34]}"#)),
        set(3, "R-2", "lat", "-1.5".into()),
        set(4, "R-2", "lon", 7i64.into()),
        set(5, "R-2", "form", f64::NAN.into()),
        set(6, "R-3", "lat", 91i64.into()),
        set(7, "R-3", "lon", 7i64.into()),
        event("a", 8, (8, 0), CREATE, point(r#"{"record_id":"R-1","form":"site","by":"x"}"#)),
        event("a", 9, (9, 0), NOTE, point(r#"{"record_id":"R-1","text":"line\nline"}"#)),
    ])
}

#[test]
fn rows_and_csv() {
    let records = sample();
    let table = Table::new(&records);
    let columns = [
        "record_id",
        "form",
        "created_by",
        "fields.form",
        "lat",
        "lon",
        "status",
        "where",
        "attachments",
        "notes",
    ];
    assert_eq!(table.columns(), columns);
    let rows: Vec<_> = table.rows().collect();
    assert_eq!(rows[1][..6], ["R-2", "", "", "NaN", "-1.5", "7"]);
    let mut out = Vec::new();
    write_csv(&records, &mut out).unwrap();
    // A CSV reader sees the same cells.
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(&out[..]);
    let read: Vec<Vec<String>> =
        reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect();
    assert_eq!(read[0], columns);
    assert_eq!(read[1..], rows);
}

#[test]
fn places_on_a_map() {
    let mut out = Vec::new();
    write_geojson(&sample(), &PlaceFields::Usual, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let read: geojson::FeatureCollection = text.parse().unwrap();
    let at = |n: usize| {
        let geometry = read.features[n].geometry.as_ref()?;
        match &geometry.value {
            geojson::GeometryValue::Point { coordinates } => Some(coordinates.as_slice().to_vec()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(at(0), Some(vec![13.4, 52.5, 34.0]));
    assert_eq!(at(1), Some(vec![7.0, -1.5]));
    assert_eq!(at(2), None, "no latitude is above 90");
    let fields = read.features[1].property("fields").unwrap();
    assert_eq!(fields.to_string(), r#"{"form":null,"lat":"-1.5","lon":7}"#);
    let named = PlaceFields::Pair { latitude: "lat".into(), longitude: "lat".into() };
    let record = sample();
    let place = Place::of_record(record.get(&"R-2".into()).unwrap(), &named).unwrap();
    assert_eq!((place.latitude, place.longitude), (-1.5, -1.5));
    let place =
        |text: &str| Place::of_value(&text.into()).map(|p| (p.latitude, p.longitude, p.altitude));
    assert_eq!(place("1 2.5 3 4"), Some((1.0, 2.5, Some(3.0))));
    assert_eq!([place("1"), place("nan 1"), place("1 2 3 4 5"), place("x y")], [None; 4]);
}

#[test]
fn nothing_is_an_empty_view() {
    assert_eq!(view(&Records::default()), "{}");
    let mut out = Vec::new();
    write_geojson(&Records::default(), &PlaceFields::Usual, &mut out).unwrap();
    let read: geojson::FeatureCollection = String::from_utf8(out).unwrap().parse().unwrap();
    assert!(read.features.is_empty());
}
