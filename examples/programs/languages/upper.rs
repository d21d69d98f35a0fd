// Reads its standard input, writes it in capital letters.
use std::io::{Read, Write};

fn main() {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).expect("text");
    std::io::stdout().write_all(text.to_uppercase().as_bytes()).expect("it is written");
}
