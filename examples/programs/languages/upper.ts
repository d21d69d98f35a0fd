// Reads its standard input, writes it in capital letters.
const chunk = new ArrayBuffer(65536);
let text = new Uint8Array(0);
while (true) {
  const read = process.stdin.read(chunk);
  if (read <= 0) break;
  const longer = new Uint8Array(text.length + read);
  longer.set(text);
  longer.set(Uint8Array.wrap(chunk, 0, read), text.length);
  text = longer;
}
process.stdout.write(String.UTF8.decode(text.buffer).toUpperCase());
