"""Scripts that put no space between words: each of their characters stands for itself."""

# Thai, Lao, Myanmar, Khmer, kana, Han and halfwidth kana, as the inside of a regular expression's
# brackets. They are the scripts of the languages whose words openai-whisper does not tell by spaces.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
