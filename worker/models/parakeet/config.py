"""What a Parakeet model's configuration says: every number that features, network and decoding need.

`weights/nemo_config.py` and `weights/transformers_config.py` read it; nothing here is assumed.
"""

from dataclasses import dataclass

from worker.models.mel import SAMPLE_RATE_HZ


@dataclass(frozen=True)
class FeatureConfig:
    """Log-mel features.

    Attributes:
        n_fft: Samples of a Fourier transform.
        window_length: Samples of the Hann window, centred in `n_fft`.
        hop_length: Samples from frame to frame.
        n_mels: Mel bins, from 0 Hz to 8 kHz.
        preemphasis: Share of the sample before that is taken off each one; 0 for none.
        normalizes: Whether each bin gets mean 0 and deviation 1 over the piece.
    """

    n_fft: int
    window_length: int
    hop_length: int
    n_mels: int
    preemphasis: float
    normalizes: bool


@dataclass(frozen=True)
class EncoderConfig:
    """FastConformer.

    Attributes:
        n_mels: Mel bins that it reads.
        width: Of the residual stream.
        num_layers: Conformer blocks.
        num_heads: Of the attention.
        feed_forward_width: Of the feed-forward layers.
        kernel_size: Of the depthwise convolution in time; odd.
        subsampling_factor: Mel frames of an encoder frame, a power of two.
        subsampling_channels: Of the convolutions before the blocks.
        has_bias: Whether linear layers of the blocks have one.
        has_conv_bias: Whether convolutions of the blocks have one.
        scales_input: Whether the input is multiplied by the root of the width.
        max_frames: Longest input, in encoder frames.
    """

    n_mels: int
    width: int
    num_layers: int
    num_heads: int
    feed_forward_width: int
    kernel_size: int
    subsampling_factor: int
    subsampling_channels: int
    has_bias: bool
    has_conv_bias: bool
    scales_input: bool
    max_frames: int

    @property
    def head_width(self) -> int:
        """Width of an attention head."""
        return self.width // self.num_heads

    @property
    def num_strided(self) -> int:
        """Convolutions of stride 2 before the blocks."""
        return self.subsampling_factor.bit_length() - 1

    @property
    def subsampled_bins(self) -> int:
        """Mel bins that are left after them."""
        bins = self.n_mels
        for _ in range(self.num_strided):
            bins = -(-bins // 2)
        return bins


@dataclass(frozen=True)
class TransducerConfig:
    """Prediction network, joint network and greedy decoding of TDT.

    Attributes:
        predictor_width: Of the embedding and the LSTM.
        predictor_layers: LSTM layers.
        joint_width: Of the joint network.
        durations: What the duration logits stand for, in encoder frames.
        max_symbols: Most labels that are found in one frame.
    """

    predictor_width: int
    predictor_layers: int
    joint_width: int
    durations: tuple[int, ...]
    max_symbols: int


@dataclass(frozen=True)
class VadConfig:
    """The voice activity head, which reads the subsampled input.

    Attributes:
        width: Of its two hidden layers.
        kernel_size: Of its convolution in time; odd.
    """

    width: int
    kernel_size: int


@dataclass(frozen=True)
class Config:
    """A model.

    Attributes:
        features: How it hears.
        encoder: Its encoder.
        num_labels: Tokens without the blank, whose id this is.
        transducer: Its TDT head; None for a CTC model.
        vad: Its voice activity head; None without one.
    """

    features: FeatureConfig
    encoder: EncoderConfig
    num_labels: int
    transducer: TransducerConfig | None
    vad: VadConfig | None = None

    @property
    def blank(self) -> int:
        """Id of the blank."""
        return self.num_labels

    @property
    def frame_seconds(self) -> float:
        """Seconds of an encoder frame."""
        samples = self.features.hop_length * self.encoder.subsampling_factor
        return samples / SAMPLE_RATE_HZ

    def num_mel_frames(self, num_samples: int) -> int:
        """Return the mel frames of a piece: whole hops."""
        return num_samples // self.features.hop_length

    def num_frames(self, num_samples: int) -> int:
        """Return the encoder frames of a piece."""
        frames = self.num_mel_frames(num_samples)
        for _ in range(self.encoder.num_strided):
            frames = -(-frames // 2)
        return frames
