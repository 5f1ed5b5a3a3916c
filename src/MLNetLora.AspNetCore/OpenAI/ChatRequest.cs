using MLNetLora.Inference;
using MLNetLora.Text;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>What a request for an answer in a conversation asks for.</summary>
/// <param name="Model">The model's name.</param>
/// <param name="Conversation">What is asked, with the tools.</param>
/// <param name="Generation">How it is answered.</param>
/// <param name="Tools">What may be called.</param>
/// <param name="Thinking">Whether the model thinks before it answers.</param>
/// <param name="Choices">How many answers.</param>
/// <param name="Stream">Whether they come piece by piece.</param>
/// <param name="IncludeUsage">Whether a stream ends with what it cost.</param>
internal sealed record ChatRequest(
    string Model, Conversation Conversation, GenerationOptions Generation, ChatTools Tools, ThinkingWish Thinking, int Choices, bool Stream, bool IncludeUsage)
{
    /// <summary>Checks a request's body.</summary>
    /// <param name="body">The body.</param>
    /// <param name="options">The endpoint's.</param>
    /// <exception cref="ApiException">Something in it cannot be, or is not served.</exception>
    public static ChatRequest Read(ChatRequestBody body, OpenAIEndpointOptions options)
    {
        OtherFields.Require(body, "", options.IgnoreUnknownFields);
        string model = Field.Required("model", body.Model);
        ChatTools tools = ChatTools.Read(body, options.IgnoreUnknownFields);
        return new ChatRequest(
            model,
            ChatPrompt.Read(body, options.IgnoreUnknownFields) with { Tools = tools.Descriptions.Count > 0 ? tools.Descriptions : null },
            Options(body, tools, options.IgnoreUnknownFields),
            tools,
            ThinkingWish.Read(body, options.IgnoreUnknownFields),
            Field.Between("n", body.N, 1, options.MaximumChoices) ?? 1,
            StreamFields.Read(body, options.IgnoreUnknownFields, out bool includeUsage),
            includeUsage);
    }

    /// <summary>What a model is asked.</summary>
    /// <param name="generator">The model.</param>
    /// <exception cref="ApiException">It has no tools, or does not think, and is asked to.</exception>
    public TextRow RowFor(TextGenerator generator)
    {
        Tools.RequireTemplate(generator);
        Sampling.RequireTokens(Generation, generator);
        return TextRow.Of(Conversation) with { EnableThinking = Thinking.For(generator) };
    }

    private static GenerationOptions Options(ChatRequestBody body, ChatTools tools, bool ignoreUnknown)
    {
        GenerationOptions options = Sampling.Options(body, Sampling.MaximumTokens(body.MaxTokens, body.MaxCompletionTokens));
        options.TopLogprobs = TopLogprobs(body);
        options.ContinueFinalMessage = ChatPrompt.Continues(body);
        AnswerRule rule = AnswerFormat.Read(body.ResponseFormat, tools.Rule, ignoreUnknown);
        try
        {
            rule.Hold(options);
        }
        catch (ConstraintException error)
        {
            throw Field.Invalid("tools", $"'tools' has a schema that calls cannot be held to: {error.Message}"); // that of the format was held to alone
        }

        return options;
    }

    private static int? TopLogprobs(ChatRequestBody body)
    {
        Field.Between("top_logprobs", body.TopLogprobs, 0, 20);
        bool logprobs = body.Logprobs ?? false;
        Field.Require(logprobs || body.TopLogprobs is null or 0, "top_logprobs", "'top_logprobs' is given, but 'logprobs' is not true.");
        return logprobs ? body.TopLogprobs ?? 0 : null;
    }
}
