namespace MLNetLora.Tools.NanoQwen.Tokenization;

/// <summary>What the corpus needs from a tokenizer: the tool's own stands behind it for statistics, the library's for training.</summary>
internal interface ITextCodec
{
    /// <summary>The ids of a plain text; nothing in it is read as a control token.</summary>
    IReadOnlyList<int> Encode(string text);

    /// <summary>The id of a control token, by its content.</summary>
    int Special(string content);
}
