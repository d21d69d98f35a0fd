//! Whatever is among good signatures, the answers are those of strict verification one by one.

use curve25519_dalek::constants::EIGHT_TORSION;
use data_encoding::HEXLOWER;
use ed25519_dalek::{Signer as _, SigningKey};

use super::*;
use crate::clock::Stamp;
use crate::identity::{IDENTITY_BYTES, Identity};

fn body(n: u64) -> Body {
    let (author, kind, payload) = ("x".into(), "k".into(), crate::json::Value::from(n).into());
    Body { author, seq: n + 1, stamp: Stamp::new(1, 0), kind, payload, prev: None }
}

fn spelled(r: &[u8; 32], s: &[u8; 32]) -> Text {
    HEXLOWER.encode(&[&r[..], s].concat()).into()
}

/// A public identity with this key, if it is one.
fn public(key: CompressedEdwardsY) -> PublicIdentity {
    let mut bytes = [0; IDENTITY_BYTES];
    bytes[32..].copy_from_slice(key.as_bytes());
    PublicIdentity::from_bytes(&bytes).unwrap()
}

/// A signer that adds points of small order wherever it likes.
struct Enemy {
    secret: Scalar,
    key: PublicIdentity,
    key_bytes: [u8; 32],
}

impl Enemy {
    fn new(torsion: EdwardsPoint) -> Self {
        let secret = Scalar::from(123_456_789u64);
        let key = (ED25519_BASEPOINT_POINT * secret + torsion).compress();
        Self { secret, key: public(key), key_bytes: key.0 }
    }

    /// The signature by nonce `r`, of which the R is off by a point.
    fn sign(&self, body: &Body, nonce: Scalar, off: EdwardsPoint) -> Text {
        let r = (ED25519_BASEPOINT_POINT * nonce + off).compress();
        let s = nonce + self.hash(&r.0, body) * self.secret;
        spelled(&r.0, s.as_bytes())
    }

    fn hash(&self, r: &[u8; 32], body: &Body) -> Scalar {
        let mut hash = Sha512::new();
        hash.update(r);
        hash.update(self.key_bytes);
        hash.update(body.to_bytes());
        Scalar::from_bytes_mod_order_wide(&hash.finalize().into())
    }
}

/// Signatures that are good, and those that are not, in many ways.
fn odd() -> Vec<(PublicIdentity, Body, Text)> {
    let mut odd = Vec::new();
    let honest = SigningKey::from_bytes(&[7; 32]);
    let key = public(CompressedEdwardsY(honest.verifying_key().to_bytes()));
    let right = honest.sign(&body(0).to_bytes());
    let (r, s) = (right.r_bytes(), right.s_bytes());
    odd.push((key.clone(), body(0), spelled(r, s)));
    odd.push((key.clone(), body(1), spelled(r, s)));
    odd.push((key.clone(), body(0), "not hexadecimal".into()));
    odd.push((key.clone(), body(0), HEXLOWER.encode(&r[..]).into()));
    // Digits as Python reads them.
    odd.push((key.clone(), body(0), spelled(r, s).to_string().to_uppercase().into()));
    let mut changed = *s;
    changed[0] ^= 1;
    odd.push((key.clone(), body(0), spelled(r, &changed)));
    // The same number, not reduced: one order of the group more.
    let order = -Scalar::ONE;
    let (mut carry, mut above) = (1u16, [0; 32]);
    for (at, byte) in above.iter_mut().enumerate() {
        carry += u16::from(s[at]) + u16::from(order.as_bytes()[at]);
        *byte = carry as u8;
        carry >>= 8;
    }
    odd.push((key, body(0), spelled(r, &above)));
    for of_key in EIGHT_TORSION {
        let enemy = Enemy::new(of_key);
        for (n, off) in (0u64..).zip(EIGHT_TORSION) {
            let signature = enemy.sign(&body(n), Scalar::from(n + 99), off);
            odd.push((enemy.key.clone(), body(n), signature));
            // An R of small order, and zero.
            let signature = enemy.sign(&body(n), Scalar::ZERO, off);
            odd.push((enemy.key.clone(), body(n), signature));
        }
        // Keys of small order, by which anybody can sign anything.
        let key = of_key.compress();
        let signature = spelled(&of_key.compress().0, Scalar::ZERO.as_bytes());
        odd.push((public(key), body(0), signature));
    }
    // Zero, with a sign that it does not have, and not reduced.
    let enemy = Enemy::new(EdwardsPoint::identity());
    let (mut signed_zero, mut unreduced) = ([0; 32], [0xff; 32]);
    (signed_zero[0], signed_zero[31]) = (1, 0x80);
    (unreduced[0], unreduced[31]) = (0xee, 0x7f);
    for r in [signed_zero, unreduced] {
        let s = enemy.hash(&r, &body(0)) * enemy.secret;
        odd.push((enemy.key.clone(), body(0), spelled(&r, s.as_bytes())));
    }
    odd
}

fn good(count: usize) -> Vec<(PublicIdentity, Body, Text)> {
    let signers: Vec<Identity> = (1..4).map(|n| Identity::from_bytes(&[n; 64])).collect();
    (0..count as u64)
        .map(|n| {
            let signer = &signers[n as usize % signers.len()];
            (signer.public().clone(), body(n), signer.sign(&body(n)))
        })
        .collect()
}

fn claims(signatures: &[(PublicIdentity, Body, Text)]) -> Vec<Claim<'_>> {
    let claim = |(key, body, signature)| Claim { key, body, signature };
    signatures.iter().map(|(key, body, signature)| claim((key, body, signature))).collect()
}

#[test]
fn good_ones_are_found_together() {
    let good = good(BATCH_SIGNATURES_MIN);
    assert!(are_all_good(&claims(&good)));
    assert_eq!(verify_all(&claims(&good)), vec![true; good.len()]);
}

#[test]
fn among_good_ones_each_odd_one_is_told_as_alone() {
    let mut accepted = 0;
    for odd in odd() {
        let alone = claims(std::slice::from_ref(&odd))[0].is_good();
        accepted += usize::from(alone);
        let mut all = good(BATCH_SIGNATURES_MIN);
        all.insert(99, odd);
        let together = are_all_good(&claims(&all));
        // What is good alone may be left to be verified alone; what is not must not pass.
        assert!(alone || !together, "{:?}", all[99]);
        let expected: Vec<bool> = (0..all.len()).map(|at| at != 99 || alone).collect();
        assert_eq!(verify_all(&claims(&all)), expected, "{:?}", all[99]);
    }
    assert!(accepted > 2, "{accepted}");
}

#[test]
fn parts_of_small_order_do_not_cancel() {
    // Each alone is wrong, and the sum of both is right for equal factors.
    let enemy = Enemy::new(EdwardsPoint::identity());
    let mut all = good(BATCH_SIGNATURES_MIN);
    for (n, off) in [
        (1u64, EIGHT_TORSION[4]),
        (2, EIGHT_TORSION[4]),
        (3, EIGHT_TORSION[2]),
        (4, EIGHT_TORSION[6]),
    ] {
        let signature = enemy.sign(&body(n), Scalar::from(n), off);
        all.push((enemy.key.clone(), body(n), signature));
    }
    assert!(!are_all_good(&claims(&all)));
    let expected: Vec<bool> = (0..all.len()).map(|at| at < BATCH_SIGNATURES_MIN).collect();
    assert_eq!(verify_all(&claims(&all)), expected);
}

#[test]
fn pure_points_and_others() {
    let parts = |off: EdwardsPoint| {
        let sums = |bit| {
            ED25519_BASEPOINT_POINT * Scalar::from(5u64 + bit)
                + if bit == 3 { off } else { EdwardsPoint::identity() }
        };
        (0..1 << HALVES_AT_ONCE).map(sums).collect::<Vec<_>>()
    };
    assert!(are_halves_pure(parts(EdwardsPoint::identity())));
    for off in &EIGHT_TORSION[1..] {
        assert!(!are_halves_pure(parts(*off)));
    }
}
