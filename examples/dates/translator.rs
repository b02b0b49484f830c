//! The model: an encoder that reads a written date from both ends, and a decoder that attends to it.

use super::arguments::Arguments;
use super::data::{END, ISO_STEPS, ISO_TOKENS, Pair, START, WRITTEN_TOKENS, iso_text, iso_tokens, written_tokens};
use anyhow::{Result, bail, ensure};
use ndarray::{Array2, Axis};
use std::path::Path;
use wgpu_lstm::{
    Activation, Attention, Clip, Concat, Decode, Dense, Device, Embedding, Fit, History, Inputs, Loss, Losses, Lstm,
    Model, Network, Optimiser, Schedule, Targets, Update,
};

/// Highest learning rate; it rises over the first steps and falls along half a cosine.
const RATE: f64 = 5e-3;

/// Pairs that are translated at once.
const AT_ONCE: usize = 500;

/// The faster device for training, by a batch of pairs.
pub fn fastest(arguments: &Arguments, pairs: &[Pair]) -> Result<Device> {
    let batch = Lesson::new(&pairs[..arguments.batch.min(pairs.len())]);
    Device::fastest_by("a training step", |device| {
        let mut translator = Translator::new(arguments, device)?;
        translator.compile()?;
        let batch = &batch;
        Ok(move || translator.fit(batch, Fit::new().batch_size(arguments.batch)).map(drop))
    })
}

/// Pairs to train on: written dates, and ISO dates as they are read and written.
struct Lesson {
    written: Written,
    read: Array2<u32>,
    next: Array2<u32>,
}

impl Lesson {
    fn new(pairs: &[Pair]) -> Lesson {
        let [read, next] = iso_steps(pairs.iter().map(|pair| &pair.iso[..]));
        Lesson { written: Written::new(pairs.iter().map(|pair| &pair.written[..])), read, next }
    }
}

/// A network from written dates to ISO dates.
pub struct Translator {
    model: Model,
}

/// Written dates as tokens, [N, T], with the length of each.
struct Written {
    tokens: Array2<u32>,
    lengths: Vec<usize>,
}

impl Written {
    fn new<'a>(texts: impl Iterator<Item = &'a str>) -> Written {
        let all: Vec<Vec<usize>> = texts.map(written_tokens).collect();
        let lengths: Vec<usize> = all.iter().map(Vec::len).collect();
        let longest = lengths.iter().copied().max().unwrap_or(1);
        let token = |(n, t): (usize, usize)| all[n].get(t).map_or(0, |&token| token as u32);
        Written { tokens: Array2::from_shape_fn((all.len(), longest), token), lengths }
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs::new().tokens("written", self.tokens.view()).lengths(&self.lengths[..])
    }
}

/// ISO dates as the decoder reads them, a step late, and as it writes them, [N, 11] each.
fn iso_steps<'a>(all: impl ExactSizeIterator<Item = &'a str>) -> [Array2<u32>; 2] {
    let (mut read, mut written) = (Array2::zeros((all.len(), ISO_STEPS)), Array2::zeros((all.len(), ISO_STEPS)));
    for (n, iso) in all.enumerate() {
        let tokens = iso_tokens(iso);
        let late = std::iter::once(START).chain(tokens.iter().copied());
        for (t, (before, token)) in late.zip(&tokens).take(ISO_STEPS).enumerate() {
            (read[[n, t]], written[[n, t]]) = (before as u32, *token as u32);
        }
    }
    [read, written]
}

impl Translator {
    /// A new model.
    pub fn new(arguments: &Arguments, device: &Device) -> Result<Translator> {
        let Arguments { features, hidden, seed, .. } = *arguments;
        let mut net = Network::new();
        let (written, previous) = (net.tokens("written"), net.tokens("previous"));
        let written = net.layer(Embedding::new(WRITTEN_TOKENS, features)).named("written_embedding").of(written);
        let previous = net.layer(Embedding::new(ISO_TOKENS, features)).named("iso_embedding").of(previous);
        let encoder = Lstm::new(hidden).bidirectional(true).return_sequences(true);
        let encoder = net.layer(encoder).named("encoder").of(written);
        let [h, c, h_reverse, c_reverse] = net.states(encoder)[..] else {
            bail!("an LSTM of two directions has four states");
        };
        let h = net.layer(Concat::new(2)).of([h, h_reverse]);
        let c = net.layer(Concat::new(2)).of([c, c_reverse]);
        let decoder = Lstm::new(2 * hidden).return_sequences(true);
        let decoder = net.layer(decoder).named("decoder").starts_from([h, c]).of(previous);
        let context = net.layer(Attention::new()).of([decoder, encoder]);
        let attention = net.attention_weights(context);
        let both = net.layer(Concat::new(2)).of([decoder, context]);
        let both = net.layer(Dense::new(2 * hidden).activation(Activation::Tanh)).of(both);
        let next = net.layer(Dense::new(ISO_TOKENS)).named("next").of(both);
        let model = net.output("iso", next).output("attention", attention).build(device, seed)?;
        Ok(Translator { model })
    }

    /// A saved model.
    pub fn load(path: &Path, device: &Device) -> Result<Translator> {
        let model = Model::load(path, device)?;
        let inputs: Vec<&str> = model.inputs().map(|(name, _)| name).collect();
        ensure!(
            inputs == ["written", "previous"] && model.output_names() == ["iso", "attention"],
            "\"{}\" is no model of this example: its inputs are {}, its outputs {}",
            path.display(),
            inputs.join(", "),
            model.output_names().join(", ")
        );
        Ok(Translator { model })
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        Ok(self.model.save(path)?)
    }

    pub fn summary(&self) -> String {
        self.model.summary()
    }

    /// Trains with teacher forcing: at each step the decoder reads the true character before. After each epoch `report` is given the
    /// epoch, its loss and the seconds that it took.
    pub fn train(
        &mut self,
        arguments: &Arguments,
        pairs: &[Pair],
        mut report: impl FnMut(&Translator, usize, f32, f64) -> Result<()>,
    ) -> Result<()> {
        let Arguments { epochs, batch, seed, .. } = *arguments;
        let lesson = Lesson::new(pairs);
        self.compile()?;
        let all = (epochs as u64).saturating_mul(pairs.len().div_ceil(batch) as u64);
        for epoch in 1..=epochs {
            let fit = Fit::new().batch_size(batch).seed(seed);
            let fit = match epoch {
                1 => fit.schedule(Schedule::cosine(all).warmup((all / 20).max(1), 0.1).per_step()),
                _ => fit.epochs(epoch).resume(true),
            };
            let history = self.fit(&lesson, fit)?;
            report(self, epoch, history.loss.last().copied().unwrap_or(f32::NAN), history.seconds)?;
        }
        Ok(())
    }

    fn compile(&mut self) -> Result<()> {
        let losses = Losses::new().output("iso", Loss::SparseSoftmaxCrossEntropy);
        Ok(self.model.compile(losses, Update::new(Optimiser::adam(RATE)).clip(Clip::Norm(1.0)))?)
    }

    fn fit(&mut self, Lesson { written, read, next }: &Lesson, fit: Fit) -> Result<History> {
        let inputs = written.inputs().tokens("previous", read.view());
        Ok(self.model.fit(inputs, Targets::new().tokens("iso", next.view()), fit)?)
    }

    /// The ISO date of each written one, character by character; by a beam of this width, if it is above 1.
    pub fn translate(&self, written: &[&str], beam: usize) -> Result<Vec<String>> {
        let decoder = self.model.decoder("previous", "iso")?;
        let decode = Decode { start: START as u32, end: END as u32, most: ISO_STEPS };
        let text = |tokens: &Vec<u32>| iso_text(&tokens.iter().map(|&token| token as usize).collect::<Vec<_>>());
        let mut all = Vec::new();
        for texts in written.chunks(AT_ONCE) {
            let written = Written::new(texts.iter().copied());
            if beam == 1 {
                all.extend(decoder.greedy(written.inputs(), decode)?.iter().map(text));
            } else {
                let beams = decoder.beam(written.inputs(), decode, beam)?;
                all.extend(beams.iter().map(|beam| beam.first().map_or(String::new(), |best| text(&best.tokens))));
            }
        }
        Ok(all)
    }

    /// The pairs whose date is not right to the last character, with what was written instead.
    pub fn wrong<'a>(&self, pairs: &'a [Pair], beam: usize) -> Result<Vec<(&'a Pair, String)>> {
        let written: Vec<&str> = pairs.iter().map(|pair| &pair.written[..]).collect();
        let given = self.translate(&written, beam)?;
        Ok(pairs.iter().zip(given).filter(|(pair, given)| pair.iso != *given).collect())
    }

    /// Weights of the attention of each character of an ISO date (rows) to those of the written one (columns).
    pub fn attention(&self, written: &str, iso: &str) -> Result<Array2<f32>> {
        let tokens = Written::new([written].into_iter());
        let [read, _] = iso_steps([iso].into_iter());
        let mut outputs = self.model.outputs(tokens.inputs().tokens("previous", read.view()))?;
        match outputs.remove("attention") {
            Some(weights) => Ok(weights.index_axis_move(Axis(0), 0).into_dimensionality()?),
            None => bail!("the model has no output \"attention\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::data::Pairs;
    use super::*;
    use clap::Parser;

    #[test]
    fn a_saved_model_translates_the_same() {
        let text = ["dates", "--pairs", "40", "--held-out", "10", "--features", "3", "--hidden", "4", "--epochs", "2"];
        let arguments = Arguments::parse_from(text);
        let pairs = Pairs::new(arguments.pairs, arguments.held_out, 1).unwrap();
        let mut translator = Translator::new(&arguments, &Device::cpu()).unwrap();
        let mut losses = Vec::new();
        let report = |_: &Translator, _, loss, _| {
            losses.push(loss);
            Ok(())
        };
        translator.train(&arguments, &pairs.train, report).unwrap();
        assert!(losses.len() == 2 && losses[1] < losses[0], "{losses:?}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        translator.save(&path).unwrap();
        let again = Translator::load(&path, &Device::cpu()).unwrap();
        let written: Vec<&str> = pairs.held_out.iter().map(|pair| &pair.written[..]).collect();
        assert_eq!(translator.translate(&written, 1).unwrap(), again.translate(&written, 1).unwrap());
        let weights = again.attention("3 May 2021", "2021-05-03").unwrap();
        assert_eq!(weights.dim(), (ISO_STEPS, 10));
        assert!(weights.rows().into_iter().all(|row| (row.sum() - 1.0).abs() < 1e-5));
    }
}
