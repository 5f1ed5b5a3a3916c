using MLNetLora.Tools.NanoQwen.Tokenization;

namespace MLNetLora.Tools.NanoQwen.Corpus;

/// <summary>A stretch of text: plain, or the name of one control token.</summary>
internal readonly record struct TextPart(string Text, bool IsControl = false);

internal enum Language { Chinese, English }

/// <summary>One row to learn from, still as text so that any tokenizer can encode it.</summary>
/// <param name="Source">Where it comes from.</param>
/// <param name="Language">Which language prevails.</param>
/// <param name="Prompt">What stands before the answer; empty for plain text.</param>
/// <param name="Answer">What is to be learned, always plain text.</param>
/// <param name="Ending">The control token that ends it.</param>
internal sealed record CorpusRow(string Source, Language Language, IReadOnlyList<TextPart> Prompt, string Answer, string Ending)
{
    /// <summary>A question and its answer in ChatML, without a system prompt, as the chat template of the checkpoint renders them.</summary>
    public static CorpusRow Conversation(Exchange exchange) => new(
        exchange.Source,
        LanguageOf(exchange.Prompt + exchange.Answer),
        [
            new(Vocabulary.MessageStart, IsControl: true),
            new("user\n" + exchange.Prompt),
            new(Vocabulary.MessageEnd, IsControl: true),
            new("\n"),
            new(Vocabulary.MessageStart, IsControl: true),
            new("assistant\n"),
        ],
        exchange.Answer,
        Vocabulary.MessageEnd);

    public static CorpusRow PlainText(string source, string text) => new(source, LanguageOf(text), [], text, Vocabulary.EndOfText);

    /// <summary>Chinese when Han characters are at least a fifth of the letters: a Chinese sentence keeps its language when it quotes an English
    /// name.</summary>
    public static Language LanguageOf(string text)
    {
        int letters = text.Count(char.IsLetter);
        int han = text.Count(character => character is >= '\u4E00' and <= '\u9FFF');
        return han * 5 >= letters && han > 0 ? Language.Chinese : Language.English;
    }
}
