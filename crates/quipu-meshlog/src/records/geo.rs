//! Records as GeoJSON, for maps.

use geojson::{Feature, Geometry, GeometryValue, feature::Id};
use serde_json::{Map, Number};

use super::table::OutputError;
use super::{Record, Records};
use crate::json::{Int, Value};

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Metres, if they are told.
    pub altitude: Option<f64>,
}

/// Which fields tell where a record is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PlaceFields {
    /// The first field, by name, that holds a point as an object; else fields with usual names.
    #[default]
    Usual,
    /// One field with a point.
    Point(String),
    /// A field for each coordinate.
    Pair {
        /// Degrees north.
        latitude: String,
        /// Degrees east.
        longitude: String,
    },
}

/// Names of fields, and of keys in a point, that hold coordinates.
const USUAL: [(&str, &str); 4] =
    [("lat", "lon"), ("latitude", "longitude"), ("lat", "lng"), ("lat", "long")];

impl Place {
    fn new(latitude: f64, longitude: f64, altitude: Option<f64>) -> Option<Self> {
        let is_on_earth = latitude.abs() <= 90.0 && longitude.abs() <= 180.0;
        let altitude = altitude.filter(|metres| metres.is_finite());
        is_on_earth.then_some(Self { latitude, longitude, altitude })
    }

    /// The place that a value tells: a GeoJSON point, an object with coordinates of usual names, or the text of
    /// a form's point: `latitude longitude altitude accuracy`, of which two are enough.
    pub fn of_value(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => {
                let numbers: Option<Vec<f64>> =
                    text.as_str()?.split_ascii_whitespace().map(|word| word.parse().ok()).collect();
                let numbers = numbers?;
                if numbers.len() > 4 {
                    return None;
                }
                Self::new(*numbers.first()?, *numbers.get(1)?, numbers.get(2).copied())
            }
            Value::Object(_) => Self::of_object(value),
            _ => None,
        }
    }

    fn of_object(value: &Value) -> Option<Self> {
        let typed = value.get("type").and_then(Value::as_text);
        if typed.is_some_and(|kind| *kind == "Point") {
            let at = value.get("coordinates")?.as_list()?;
            let (longitude, latitude) = (number(at.first()?)?, number(at.get(1)?)?);
            return Self::new(latitude, longitude, at.get(2).and_then(number));
        }
        USUAL.iter().find_map(|(latitude, longitude)| {
            let altitude = value.get("alt").or_else(|| value.get("altitude")).and_then(number);
            Self::new(number(value.get(latitude)?)?, number(value.get(longitude)?)?, altitude)
        })
    }

    /// Where a record is, if its fields tell.
    pub fn of_record(record: &Record, fields: &PlaceFields) -> Option<Self> {
        let pair = |latitude: &str, longitude: &str| {
            Self::new(number(record.field(latitude)?)?, number(record.field(longitude)?)?, None)
        };
        match fields {
            PlaceFields::Point(name) => Self::of_value(record.field(name)?),
            PlaceFields::Pair { latitude, longitude } => pair(latitude, longitude),
            PlaceFields::Usual => {
                let objects = record.fields().filter(|(_, value)| value.as_object().is_some());
                let mut points = objects.filter_map(|(_, value)| Self::of_value(value));
                points.next().or_else(|| USUAL.iter().find_map(|(a, b)| pair(a, b)))
            }
        }
    }

    fn to_geometry(self) -> Geometry {
        let mut position = vec![self.longitude, self.latitude];
        position.extend(self.altitude);
        Geometry::new(GeometryValue::new_point(position))
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(int) => Some(int.to_f64()),
        Value::Float(float) => Some(*float),
        // Fields that were typed into a form are often text.
        Value::Text(text) => text.as_str()?.trim().parse().ok(),
        _ => None,
    }
    .filter(|number| number.is_finite())
}

/// Names before an object that GDAL looks for in the text: wherever they stand, it takes the file for another format,
/// JSON-FG. With the first letter as an escape they mean the same to every reader of JSON. Within a text no
/// quotation mark stands without a backslash, so nothing else is found.
const MISTAKEN: [(&str, &str); 2] =
    [(r#""place":{"#, r#""\u0070lace":{"#), (r#""time":{"#, r#""\u0074ime":{"#)];

/// Writes all records as a feature collection, feature by feature. A record that does not tell where it is has no
/// geometry, as GeoJSON allows.
pub fn write_geojson(
    records: &Records,
    fields: &PlaceFields,
    mut out: impl std::io::Write,
) -> Result<(), OutputError> {
    out.write_all(br#"{"type":"FeatureCollection","features":["#)?;
    for (at, (id, record)) in records.iter().enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        let mut text = feature(&id.to_string(), record, fields).to_string();
        for (name, escaped) in MISTAKEN {
            text = text.replace(name, escaped);
        }
        out.write_all(text.as_bytes())?;
    }
    Ok(out.write_all(b"]}")?)
}

fn feature(id: &str, record: &Record, fields: &PlaceFields) -> Feature {
    let mut properties = Map::new();
    properties.insert("form".into(), record.form().map_or("".into(), to_serde));
    properties.insert("created_by".into(), record.created_by().map_or("".into(), to_serde));
    let fields_shown = record.fields().map(|(name, value)| (name.to_string(), to_serde(value)));
    properties.insert("fields".into(), fields_shown.collect::<Map<_, _>>().into());
    let notes: Vec<serde_json::Value> = record.notes().map(to_serde).collect();
    properties.insert("notes".into(), notes.into());
    let attachments: Vec<_> = record.attachments().map(|shown| to_serde(&shown)).collect();
    properties.insert("attachments".into(), attachments.into());
    Feature {
        bbox: None,
        geometry: Place::of_record(record, fields).map(Place::to_geometry),
        id: Some(Id::String(id.to_owned())),
        properties: Some(properties),
        foreign_members: None,
    }
}

/// A value in plain JSON. What plain JSON lacks becomes null (`NaN`, infinities), text (integers beyond 64 bits) or
/// U+FFFD (lone surrogates).
fn to_serde(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(truth) => (*truth).into(),
        Value::Int(Int::Small(int)) => (*int).into(),
        Value::Int(big) => big.to_string().into(),
        Value::Float(float) => Number::from_f64(*float).into(),
        Value::Text(text) => text.to_string().into(),
        Value::List(items) => items.iter().map(to_serde).collect(),
        Value::Object(object) => {
            object.iter().map(|(key, value)| (key.to_string(), to_serde(value))).collect()
        }
    }
}
