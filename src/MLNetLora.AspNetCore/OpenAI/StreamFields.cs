namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>What a request says about streaming.</summary>
internal static class StreamFields
{
    /// <summary>Whether the answer is streamed.</summary>
    /// <param name="body">The request.</param>
    /// <param name="ignoreUnknown">Whether fields that nobody knows are passed over.</param>
    /// <param name="includeUsage">Whether the stream ends with what it cost.</param>
    /// <exception cref="ApiException">There are options of a stream, and there is none.</exception>
    public static bool Read(GenerationRequestBody body, bool ignoreUnknown, out bool includeUsage)
    {
        bool stream = body.Stream ?? false;
        Field.Require(stream || body.StreamOptions is null, "stream_options", "'stream_options' is given, but 'stream' is not true.");
        if (body.StreamOptions is { } options)
        {
            OtherFields.Require(options, "stream_options.", ignoreUnknown);
        }

        includeUsage = body.StreamOptions?.IncludeUsage ?? false;
        return stream;
    }
}
