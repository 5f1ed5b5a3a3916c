using System.Text.Json;
using Microsoft.Extensions.AI;

namespace MLNetLora.Inference;

/// <summary>What the <see cref="ChatOptions"/> of a request come to.</summary>
/// <param name="Generation">How the answer is generated.</param>
/// <param name="EnableThinking">enable_thinking for the chat template; null for what the model is asked with otherwise.</param>
/// <param name="ShowsThinking">Whether the thinking is given out.</param>
/// <param name="Tools">What may be called; empty for nothing.</param>
internal sealed record ChatRequest(
    GenerationOptions Generation, bool? EnableThinking, bool ShowsThinking, IReadOnlyList<AIFunctionDeclaration> Tools)
{
    /// <summary>The JSON schemas of the tools' parameters by the tools' names.</summary>
    public IReadOnlyDictionary<string, JsonElement> Schemas { get; } = Tools.ToDictionary(tool => tool.Name, tool => tool.JsonSchema, StringComparer.Ordinal);

    /// <summary>Reads the options of a request.</summary>
    /// <param name="options">The options; null for none.</param>
    /// <param name="client">The client, for the options' own factory.</param>
    /// <param name="modelId">The client's model.</param>
    /// <param name="defaults">What holds where the options say nothing.</param>
    /// <param name="features">What the chat template knows.</param>
    /// <exception cref="NotSupportedException">They ask for something that this client cannot do.</exception>
    /// <exception cref="OptionException">A value makes no sense, or the model is another one.</exception>
    /// <exception cref="ConstraintException">A schema is wrong, or asks for what cannot be held to.</exception>
    public static ChatRequest From(ChatOptions? options, IChatClient client, string modelId, GenerationOptions defaults, TemplateFeatures features)
    {
        if (options is null)
        {
            return new ChatRequest(defaults.Copy(), null, true, []);
        }

        Refuse(options);
        if (options.ModelId is { } asked && asked != modelId)
        {
            throw new OptionException($"ModelId is \"{asked}\", but this client answers with \"{modelId}\". Ask the client of that model, or leave it null.");
        }

        OwnProperties own = new(options.AdditionalProperties);
        List<AIFunctionDeclaration> tools = ToolsOf(options, features);
        GenerationOptions generation = Raw(options, client) ?? defaults.Copy();
        generation.Temperature = options.Temperature ?? generation.Temperature;
        generation.TopP = options.TopP ?? generation.TopP;
        generation.TopK = options.TopK ?? generation.TopK;
        generation.Seed = options.Seed is { } seed ? Fold(seed) : generation.Seed;
        generation.MaximumNewTokens = options.MaxOutputTokens ?? generation.MaximumNewTokens;
        generation.PresencePenalty = options.PresencePenalty ?? generation.PresencePenalty;
        generation.FrequencyPenalty = options.FrequencyPenalty ?? generation.FrequencyPenalty;
        AddOwn(generation, own);
        generation.StopStrings = [.. generation.StopStrings.Concat(options.StopSequences ?? []).Distinct(StringComparer.Ordinal)];
        RuleOf(options, tools).Hold(generation);
        return new ChatRequest(generation, Thinking(options, own, features), options.Reasoning?.Output != ReasoningOutput.None, tools);
    }

    /// <summary>What a client without a server and without a memory of conversations cannot do.</summary>
    private static void Refuse(ChatOptions options)
    {
        if (options.ConversationId is not null)
        {
            throw new NotSupportedException(
                "ConversationId is set, but this client keeps no conversations: give all messages with each request, and leave it null.");
        }

        if (options.ContinuationToken is not null)
        {
            throw new NotSupportedException("ContinuationToken is set, but this client gives none out: its answers are generated while they are waited for.");
        }
    }

    private static GenerationOptions? Raw(ChatOptions options, IChatClient client) => options.RawRepresentationFactory?.Invoke(client) switch
    {
        null => null,
        GenerationOptions given => given.Copy(),
        object other => throw new NotSupportedException(
            $"RawRepresentationFactory gives a {other.GetType()}; this client takes {nameof(GenerationOptions)}, or null."),
    };

    private static void AddOwn(GenerationOptions generation, OwnProperties own)
    {
        generation.MinP = own.Number("min_p") ?? generation.MinP;
        generation.RepetitionPenalty = own.Number("repetition_penalty") ?? generation.RepetitionPenalty;
        generation.LogitBias = own.NumbersById("logit_bias") ?? generation.LogitBias;
        generation.MinimumNewTokens = own.Whole("min_tokens") ?? own.Whole("minimum_new_tokens") ?? generation.MinimumNewTokens;
        generation.StopTokenIds = own.Wholes("stop_token_ids") ?? generation.StopTokenIds;
        generation.IgnoreEndOfText = own.Flag("ignore_eos") ?? own.Flag("ignore_end_of_text") ?? generation.IgnoreEndOfText;
        generation.ContinueFinalMessage = own.Flag("continue_final_message") ?? generation.ContinueFinalMessage;
        generation.TopLogprobs = own.Whole("top_logprobs") ?? (own.Flag("logprobs") == true ? 0 : generation.TopLogprobs);
    }

    private static AnswerRule RuleOf(ChatOptions options, List<AIFunctionDeclaration> tools)
    {
        RequiredChatToolMode? required = options.ToolMode as RequiredChatToolMode;
        ChatResponseFormatJson? format = options.ResponseFormat as ChatResponseFormatJson;
        return new AnswerRule
        {
            Tools = ChatMessages.ToJson(tools),
            MustCall = required is not null,
            MustCallTool = required?.RequiredFunctionName,
            AllowsSeveralCalls = options.AllowMultipleToolCalls != false,
            IsJson = format is not null,
            Schema = format?.Schema?.GetRawText(),
        };
    }

    private static int Fold(long seed) => seed is >= int.MinValue and <= int.MaxValue ? (int)seed : unchecked((int)(seed ^ (seed >>> 32)));

    private static bool? Thinking(ChatOptions options, OwnProperties own, TemplateFeatures features)
    {
        bool? given = own.Flag("enable_thinking");
        if (given is not null && !features.Thinking)
        {
            throw new NotSupportedException(
                "AdditionalProperties holds enable_thinking, but the checkpoint's chat template does not read it: it would change nothing. Leave it out.");
        }

        return options.Reasoning?.Effort is { } effort ? effort != ReasoningEffort.None : given;
    }

    private static List<AIFunctionDeclaration> ToolsOf(ChatOptions options, TemplateFeatures features)
    {
        RequiredChatToolMode? required = options.ToolMode as RequiredChatToolMode;
        if (options.ToolMode is NoneChatToolMode || options.Tools is not { Count: > 0 })
        {
            return required is null ? [] : throw new OptionException("ToolMode requires a call, but Tools is empty. Name the functions that may be called.");
        }

        if (!features.Tools)
        {
            throw new NotSupportedException(
                "Tools are given, but the checkpoint's chat template does not write them: the model would not see them. Use a checkpoint whose template does, "
                + "or leave them out.");
        }

        List<AIFunctionDeclaration> functions = [];
        foreach (AITool tool in options.Tools)
        {
            functions.Add(tool as AIFunctionDeclaration ?? throw new NotSupportedException(
                $"Tools holds {tool?.GetType().Name ?? "null"}; this client has functions called (AIFunction, AIFunctionDeclaration) and hosts no tools "
                + "itself."));
        }

        if (functions.GroupBy(function => function.Name, StringComparer.Ordinal).FirstOrDefault(group => group.Count() > 1) is { } twice)
        {
            throw new OptionException($"Tools holds two functions named {twice.Key}; a call could not say which. Rename one.");
        }

        if (required?.RequiredFunctionName is { } name && functions.All(function => function.Name != name))
        {
            throw new OptionException($"ToolMode requires a call of {name}, but Tools holds {string.Join(", ", functions.Select(function => function.Name))}.");
        }

        return functions;
    }
}
