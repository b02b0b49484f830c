//! The network: a bidirectional encoder, and a decoder that attends to what the encoder read.

use super::arguments::Arguments;
use super::data::{END, ISO_STEPS, ISO_TOKENS, Pair, START, WRITTEN_TOKENS, iso_text, iso_tokens, written_tokens};
use anyhow::{Result, ensure};
use ndarray::{Array2, Axis, concatenate};
use std::path::Path;
use wgpu_lstm::{
    Attention, Callback, Concat, Decode, Dense, Device, Embedding, Fit, Inputs, Loss, Losses, Lstm, Model, Network,
    Optimiser, Targets,
};

/// How a decoding begins and ends.
const DECODE: Decode = Decode { start: START as u32, end: END as u32, most: ISO_STEPS };

pub struct Translator {
    model: Model,
}

impl Translator {
    pub fn new(Arguments { features, hidden, seed, .. }: &Arguments, device: &Device) -> Result<Translator> {
        let (features, hidden) = (*features, *hidden);
        let mut net = Network::new();
        let (written, previous) = (net.tokens("written"), net.tokens("previous"));
        let read = net.layer(Embedding::new(WRITTEN_TOKENS, features)).of(written);
        let encoder = Lstm::new(hidden).bidirectional(true).return_sequences(true);
        let encoded = net.layer(encoder).named("encoder").of(read); // [B, T, 2·H]
        let states = net.states(encoded); // h and c, forward and reverse
        let h = net.layer(Concat::new(2)).of([states[0], states[2]]);
        let c = net.layer(Concat::new(2)).of([states[1], states[3]]);
        let embedded = net.layer(Embedding::new(ISO_TOKENS, features)).of(previous);
        let decoder = Lstm::new(2 * hidden).return_sequences(true);
        let decoded = net.layer(decoder).named("decoder").starts_from([h, c]).of(embedded);
        let context = net.layer(Attention::new()).of([decoded, encoded]); // query, value
        let both = net.layer(Concat::new(2)).of([decoded, context]);
        let next = net.layer(Dense::new(ISO_TOKENS)).named("next").of(both);
        let weights = net.attention_weights(context);
        let model = net.output("next", next).output("attention", weights).build(device, *seed)?;
        Ok(Translator { model })
    }

    pub fn load(path: &Path, device: &Device) -> Result<Translator> {
        let model = Model::load(path, device)?;
        let inputs: Vec<&str> = model.inputs().map(|(name, _)| name).collect();
        ensure!(inputs == ["written", "previous"], "\"{}\" holds no model of this example", path.display());
        Ok(Translator { model })
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        Ok(self.model.save(path)?)
    }

    pub fn summary(&self) -> String {
        self.model.summary()
    }

    /// Trains with teacher forcing: the decoder is fed the right characters, one step late.
    pub fn train(&mut self, pairs: &[Pair], arguments: &Arguments, follow: impl Callback) -> Result<()> {
        let (written, lengths) = written(pairs.iter().map(|pair| pair.written.as_str()));
        let next = Array2::from_shape_vec(
            (pairs.len(), ISO_STEPS),
            pairs.iter().flat_map(|pair| iso_tokens(&pair.iso)).map(|token| token as u32).collect(),
        )?;
        let start = Array2::from_elem((pairs.len(), 1), DECODE.start);
        let previous = concatenate![Axis(1), start, next.slice(ndarray::s![.., ..ISO_STEPS - 1])];
        let losses = Losses::new().output("next", Loss::SparseSoftmaxCrossEntropy);
        self.model.compile(losses, Optimiser::adam(5e-3))?;
        let inputs =
            Inputs::new().tokens("written", written.view()).lengths(lengths).tokens("previous", previous.view());
        let steps = arguments.epochs * pairs.len().div_ceil(arguments.batch);
        let schedule = wgpu_lstm::Schedule::cosine(steps as u64).per_step();
        let fit =
            Fit::new().epochs(arguments.epochs).batch_size(arguments.batch).seed(arguments.seed).schedule(schedule);
        self.model.fit(inputs, Targets::new().tokens("next", next.view()), fit.callback(follow))?;
        Ok(())
    }

    /// Writes dates as ISO 8601 does.
    pub fn translate<'a>(&self, dates: impl Iterator<Item = &'a str>, beam: usize) -> Result<Vec<String>> {
        let decoder = self.model.decoder("previous", "next")?;
        let (written, lengths) = written(dates);
        let inputs = Inputs::new().tokens("written", written.view()).lengths(lengths);
        let all = match beam {
            1 => decoder.greedy(inputs, DECODE)?,
            _ => decoder.beam(inputs, DECODE, beam)?.into_iter().map(|mut beam| beam.swap_remove(0).0).collect(),
        };
        Ok(all.iter().map(|tokens| text(tokens)).collect())
    }

    /// Writes one date, with the weights of attention [characters written, characters read].
    pub fn attend(&self, date: &str) -> Result<(String, Array2<f32>)> {
        let (written, lengths) = written(std::iter::once(date));
        let inputs = Inputs::new().tokens("written", written.view()).lengths(lengths);
        let mut decoding = self.model.decoder("previous", "next")?.begin(inputs)?;
        let (mut token, mut tokens, mut rows) = (DECODE.start, Vec::new(), Vec::new());
        while tokens.len() < DECODE.most {
            let scores = decoding.step(&[token])?;
            token = (0..).zip(scores.row(0)).max_by(|a, b| a.1.total_cmp(b.1)).map_or(DECODE.end, |(token, _)| token);
            if token == DECODE.end {
                break;
            }
            tokens.push(token);
            rows.extend(decoding.output("attention")?);
        }
        Ok((text(&tokens), Array2::from_shape_vec((tokens.len(), written.ncols()), rows)?))
    }
}

/// Tokens of written dates, padded to the longest, [N, T], and their lengths.
fn written<'a>(dates: impl Iterator<Item = &'a str>) -> (Array2<u32>, Vec<usize>) {
    let all: Vec<Vec<usize>> = dates.map(written_tokens).collect();
    let lengths: Vec<usize> = all.iter().map(Vec::len).collect();
    let steps = lengths.iter().copied().max().unwrap_or(0);
    let token = |(n, t): (usize, usize)| all[n].get(t).map_or(0, |&token| token as u32);
    (Array2::from_shape_fn((all.len(), steps), token), lengths)
}

fn text(tokens: &[u32]) -> String {
    iso_text(&tokens.iter().map(|&token| token as usize).collect::<Vec<_>>())
}
