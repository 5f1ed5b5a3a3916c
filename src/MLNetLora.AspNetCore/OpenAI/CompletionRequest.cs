using System.Globalization;
using MLNetLora.Inference;
using MLNetLora.Text;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>What a request for the continuation of texts asks for.</summary>
/// <param name="Model">The model's name.</param>
/// <param name="Prompts">What is gone on with.</param>
/// <param name="Generation">How; null where nothing is generated, and the prompts alone are looked at.</param>
/// <param name="Choices">How many answers to each prompt.</param>
/// <param name="Echo">Whether the answer begins with the prompt.</param>
/// <param name="Logprobs">How many of the likeliest tokens are told with each; null for no log probabilities.</param>
/// <param name="Stream">Whether answers come piece by piece.</param>
/// <param name="IncludeUsage">Whether a stream ends with what it cost.</param>
internal sealed record CompletionRequest(
    string Model,
    IReadOnlyList<CompletionPrompt> Prompts,
    GenerationOptions? Generation,
    int Choices,
    bool Echo,
    int? Logprobs,
    bool Stream,
    bool IncludeUsage)
{
    private const int DefaultTokens = 16; // OpenAI's

    /// <summary>Whether it has to do with what is kept of prompts.</summary>
    public bool UsesPrefixCache { get; init; } = true;

    /// <summary>With whom the request shares what is kept of prompts.</summary>
    public string? CacheSalt { get; init; }

    /// <summary>Checks a request's body.</summary>
    /// <param name="body">The body.</param>
    /// <param name="options">The endpoint's.</param>
    /// <exception cref="ApiException">Something in it cannot be, or is not served.</exception>
    public static CompletionRequest Read(CompletionRequestBody body, OpenAIEndpointOptions options)
    {
        OtherFields.Require(body, "", options.IgnoreUnknownFields);
        string model = Field.Required("model", body.Model);
        IReadOnlyList<CompletionPrompt> prompts = Field.Required("prompt", body.Prompt);
        Field.Require(prompts.Count > 0, "prompt", "'prompt' is an empty array: there is nothing to go on with.");
        int choices = Field.Between("n", body.N, 1, options.MaximumChoices) ?? 1;
        Field.Require(
            prompts.Count <= options.MaximumChoices / choices,
            "prompt",
            string.Create(CultureInfo.InvariantCulture, $"'prompt' has {prompts.Count} prompts, 'n' is {choices}; at most {options.MaximumChoices} answers."));
        bool echo = body.Echo ?? false;
        int? logprobs = Field.Between("logprobs", body.Logprobs, 0, 20);
        int most = Sampling.MaximumTokens(body.MaxTokens, null, echo ? 0 : 1) ?? DefaultTokens;
        GenerationOptions generation = Sampling.Options(body, Math.Max(most, 1));
        generation.TopLogprobs = logprobs;
        bool stream = StreamFields.Read(body, options.IgnoreUnknownFields, out bool includeUsage);
        return new CompletionRequest(model, prompts, most == 0 ? null : generation, choices, echo, logprobs, stream, includeUsage)
        {
            UsesPrefixCache = generation.UsesPrefixCache,
        };
    }

    /// <summary>The tokens of the prompts.</summary>
    /// <param name="generator">The model.</param>
    /// <exception cref="ApiException">A prompt has none, more than the model takes, or others than the model's; or an option has.</exception>
    public IReadOnlyList<int[]> TokensFor(TextGenerator generator)
    {
        if (Generation is not null)
        {
            Sampling.RequireTokens(Generation, generator);
        }

        return [.. Prompts.Select((prompt, i) => Tokens(prompt, Prompts.Count == 1 ? "prompt" : $"prompt[{i}]", generator))];
    }

    private int[] Tokens(CompletionPrompt prompt, string name, TextGenerator generator)
    {
        int[] ids = prompt.Ids is { } given ? [.. given] : generator.Tokenizer.Encode(prompt.Text!, QwenTokenizer.Recognition.All);
        Field.Require(ids.Length > 0, name, $"'{name}' is empty: there is nothing to go on with.");
        Sampling.RequireTokens(name, ids, generator.Checkpoint.Config.VocabSize - 1);
        int context = generator.Checkpoint.Config.ContextLength;
        int most = Generation is null ? context : context - 1; // one place at least for what follows
        if (ids.Length > most)
        {
            throw new ApiException(ServingError.Invalid(
                string.Create(CultureInfo.InvariantCulture, $"'{name}' has {ids.Length} tokens; the model takes at most {most}."),
                name,
                "context_length_exceeded"));
        }

        return ids;
    }
}
