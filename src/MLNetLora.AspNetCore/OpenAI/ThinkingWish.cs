using MLNetLora.Inference;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>Whether a request wants the model to think before it answers.</summary>
/// <param name="Thinks">Whether; null for what the model does anyway.</param>
/// <param name="Name">The field that says so.</param>
internal sealed record ThinkingWish(bool? Thinks, string Name)
{
    private const string Effort = "reasoning_effort";
    private const string Template = "chat_template_kwargs";

    private static readonly string[] s_efforts = ["none", "minimal", "low", "medium", "high", "xhigh"];

    /// <summary>Reads reasoning_effort and chat_template_kwargs.</summary>
    /// <param name="body">The request.</param>
    /// <param name="ignoreUnknown">Whether fields that nobody knows are passed over.</param>
    /// <exception cref="ApiException">A value cannot be, or they say two things.</exception>
    public static ThinkingWish Read(ChatRequestBody body, bool ignoreUnknown)
    {
        if (body.ChatTemplateKwargs is { } arguments)
        {
            OtherFields.Require(arguments, $"{Template}.", ignoreUnknown);
        }

        Field.Require(
            body.ReasoningEffort is null || s_efforts.Contains(body.ReasoningEffort), Effort, $"'{Effort}' must be one of {string.Join(", ", s_efforts)}.");
        bool? effort = body.ReasoningEffort is null ? null : body.ReasoningEffort != "none"; // the models know no more than that
        bool? template = body.ChatTemplateKwargs?.EnableThinking;
        Field.Require(effort is null || template is null || effort == template, Effort, $"'{Effort}' and '{Template}.enable_thinking' say two things.");
        return template is null ? new ThinkingWish(effort, Effort) : new ThinkingWish(template, $"{Template}.enable_thinking");
    }

    /// <summary>What a model's chat template is told.</summary>
    /// <param name="generator">The model.</param>
    /// <returns>enable_thinking; null for nothing.</returns>
    /// <exception cref="ApiException">The model always thinks, or never, and the wish is another one.</exception>
    public bool? For(TextGenerator generator)
    {
        if (Thinks is not { } thinks || generator.TemplateReads("enable_thinking"))
        {
            return Thinks;
        }

        return generator.OpensThinking == thinks ? null : throw Field.Unsupported(
            Name, $"'{Name}' asks for {(thinks ? "thinking" : "an answer without thinking")}, which this model's chat template cannot be told.");
    }
}
