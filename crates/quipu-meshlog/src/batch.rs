//! Many signatures verified together, in a third of the time, with the answers of strict verification one by one.
//!
//! A signature (R, s) of a message by a key A is good if `s < l`, R is spelled in the one way, neither R nor A is of small
//! order, and `s B - k A - R = 0`, where k is the hash of R, A and the message. With random factors z the sum of all
//! `z (s B - k A - R)` is zero if each is, and else only by a chance of 2^-128: if all points are of prime order.
//! A part of small order could vanish by a chance of one half, so it is ruled out before: for keys by their identity, for the R by
//! sums over random halves of them. If one of them has such a part, a sum has none by a chance of one half,
//! and there are [`HALVES`] sums.
//!
//! Factors and halves are drawn from a hash of all that is verified, so they are the same on each machine and nobody
//! can choose signatures by them. If anything is wrong in a batch, each of its signatures is verified alone.

use std::collections::BTreeMap;

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{Identity as _, IsIdentity as _, VartimeMultiscalarMul as _};
use ed25519_dalek::VerifyingKey;
use rayon::prelude::*;
use sha2::{Digest as _, Sha512};

use crate::event::Body;
use crate::identity::{PublicIdentity, SIGNATURE_BYTES, signature_bytes};
use crate::text::Text;

/// Signatures in a batch. More would be little faster.
const BATCH_SIGNATURES: usize = 16_384;
/// Signatures of which one core makes a sum.
const SUM_SIGNATURES: usize = 4_096;
/// With fewer, the sums of a batch cost more than it saves.
const BATCH_SIGNATURES_MIN: usize = 512;
/// Signatures that one core verifies alone, or reads, at least.
const SIGNATURES_TOGETHER: usize = 4;
/// Random halves of all R that are summed up.
const HALVES: usize = 128;
/// Halves that are summed up in one pass: each R goes into one of 2^8 sums, of which the halves are made.
const HALVES_AT_ONCE: usize = 8;
/// Names what the random numbers are for.
const CONTEXT: &str = "quipu 2026 signatures of meshes verified together";

/// A signature to be verified.
#[derive(Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) key: &'a PublicIdentity,
    pub(crate) body: &'a Body,
    pub(crate) signature: &'a Text,
}

impl Claim<'_> {
    fn is_good(&self) -> bool {
        self.key.has_signed(&self.body.to_bytes(), self.signature)
    }
}

/// Which signatures are good. The answers do not depend on what is verified together.
pub(crate) fn verify_all(claims: &[Claim<'_>]) -> Vec<bool> {
    claims.chunks(BATCH_SIGNATURES).flat_map(verify).collect()
}

fn verify(claims: &[Claim<'_>]) -> Vec<bool> {
    if claims.len() >= BATCH_SIGNATURES_MIN && are_all_good(claims) {
        return vec![true; claims.len()];
    }
    let singles = claims.par_iter().with_min_len(SIGNATURES_TOGETHER);
    singles.map(Claim::is_good).collect()
}

/// What verification needs of a signature.
struct Parts<'a> {
    key: &'a VerifyingKey,
    r: EdwardsPoint,
    s: Scalar,
    /// Of R, the key and the message.
    hash: [u8; 64],
}

impl<'a> Parts<'a> {
    /// Nothing if the signature is not good, or if that cannot be said here.
    fn of(claim: &Claim<'a>) -> Option<Self> {
        let key = claim.key.pure_key()?;
        let signature: [u8; SIGNATURE_BYTES] = signature_bytes(claim.signature)?;
        let ([r_bytes, s_bytes], []) = signature.as_chunks::<32>() else { return None };
        let s: Option<Scalar> = Scalar::from_canonical_bytes(*s_bytes).into();
        let r = CompressedEdwardsY(*r_bytes).decompress()?;
        if !is_reduced(r_bytes) || r.is_identity() {
            return None;
        }
        let mut hash = Sha512::new();
        hash.update(r_bytes);
        hash.update(key.as_bytes());
        hash.update(claim.body.to_bytes());
        Some(Self { key, r, s: s?, hash: hash.finalize().into() })
    }
}

/// Whether the coordinate in a spelled point is below 2^255 - 19. (That of zero has one sign only; what breaks this is of
/// small order.)
fn is_reduced(spelled: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = spelled;
    *low < 0xed || high & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff)
}

/// Random numbers for a signature: a factor, and in which halves its R is.
#[derive(Clone, Copy)]
struct Drawn {
    factor: u128,
    halves: [u8; HALVES / HALVES_AT_ONCE],
}

fn draw(parts: &[Parts<'_>]) -> Vec<Drawn> {
    let mut transcript = blake3::Hasher::new_derive_key(CONTEXT);
    for one in parts {
        transcript.update(&one.hash);
        transcript.update(one.s.as_bytes());
    }
    let mut stream = transcript.finalize_xof();
    let mut draw_one = || {
        let (mut factor, mut halves) = ([0; 16], [0; HALVES / HALVES_AT_ONCE]);
        stream.fill(&mut factor);
        stream.fill(&mut halves);
        Drawn { factor: u128::from_le_bytes(factor), halves }
    };
    parts.iter().map(|_| draw_one()).collect()
}

/// Whether all signatures are good. If not, it is not known which.
fn are_all_good(claims: &[Claim<'_>]) -> bool {
    let parts: Option<Vec<Parts<'_>>> =
        claims.par_iter().with_min_len(SIGNATURES_TOGETHER).map(Parts::of).collect();
    let Some(parts) = parts else { return false };
    let drawn = draw(&parts);
    let pieces = parts.par_chunks(SUM_SIGNATURES).zip(drawn.par_chunks(SUM_SIGNATURES));
    let sum: EdwardsPoint = pieces.map(|(parts, drawn)| sum_of(parts, drawn)).sum();
    sum.is_identity() && are_pure(&parts, &drawn)
}

/// The sum of all `z (k A + R - s B)`.
fn sum_of(parts: &[Parts<'_>], drawn: &[Drawn]) -> EdwardsPoint {
    let mut of_base = Scalar::ZERO;
    let mut of_keys: BTreeMap<&[u8; 32], (&VerifyingKey, Scalar)> = BTreeMap::new();
    let mut factors = Vec::with_capacity(parts.len());
    for (one, drawn) in parts.iter().zip(drawn) {
        let factor = Scalar::from(drawn.factor);
        let (_, of_key) = of_keys.entry(one.key.as_bytes()).or_insert((one.key, Scalar::ZERO));
        *of_key += factor * Scalar::from_bytes_mod_order_wide(&one.hash);
        of_base -= factor * one.s;
        factors.push(factor);
    }
    let (keys, of_keys): (Vec<_>, Vec<_>) =
        of_keys.into_values().map(|(key, factor)| (key.to_edwards(), factor)).unzip();
    let points = parts.iter().map(|one| one.r).chain(keys).chain([ED25519_BASEPOINT_POINT]);
    let factors = factors.into_iter().chain(of_keys).chain([of_base]);
    EdwardsPoint::vartime_multiscalar_mul(factors, points)
}

/// Whether no R has a part of small order.
fn are_pure(parts: &[Parts<'_>], drawn: &[Drawn]) -> bool {
    (0..HALVES / HALVES_AT_ONCE).into_par_iter().all(|pass| {
        let mut sums = vec![EdwardsPoint::identity(); 1 << HALVES_AT_ONCE];
        for (one, drawn) in parts.iter().zip(drawn) {
            sums[usize::from(drawn.halves[pass])] += one.r;
        }
        are_halves_pure(sums)
    })
}

/// The same for the halves that sums by eight bits make: for each bit, the sum of those that have it.
fn are_halves_pure(mut sums: Vec<EdwardsPoint>) -> bool {
    while sums.len() > 1 {
        let with_bit = sums.split_off(sums.len() / 2);
        let half: EdwardsPoint = with_bit.iter().sum();
        if !half.is_torsion_free() {
            return false;
        }
        sums.iter_mut().zip(&with_bit).for_each(|(sum, other)| *sum += other);
    }
    true
}

#[cfg(test)]
mod tests;
