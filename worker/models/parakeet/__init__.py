"""Parakeet: FastConformer with a transducer (TDT) or CTC head; its network, its labels and times.

How the family calls what computes (all in the engine's thread):

- `weights.load.load_weights(name, revision=..., dtype=...)` returns checked `Weights`: `config`
  (`config.Config`), `vocabulary` (`vocabulary.Vocabulary`), `arrays`, `name`, `revision`;
- `backend.make_network(weights, dtype, backend)` returns a `network_base.Network`;
- `network.encode(pieces)` starts the encoder on pieces of samples and returns an `Encoded` each,
  for `requests.Encode`;
- `tdt.TdtStepper(network, slots)` is the family's `stepper`; it answers `requests.Recognize` with
  `requests.Label`s;
- `network.label_ctc(pieces)` and `network.hear_speech(pieces)` return functions that wait, for
  `requests.LabelCtc` and `requests.HearSpeech`;
- `memory_needs.memory_needs(config, ...)` is the family's `needs`.
"""
