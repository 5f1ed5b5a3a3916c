using MLNetLora.Inference;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>Makes what clients get of answers.</summary>
internal static class ChatAnswer
{
    /// <summary>Answers that are whole.</summary>
    public static ChatCompletion Of(AnswerId id, IReadOnlyList<GeneratedText> answers) =>
        new(id.Id, id.Created, id.Model, id.Fingerprint, [.. answers.Select(Choice)], Usage(answers));

    /// <summary>Why an answer ended.</summary>
    public static string FinishReason(GeneratedText answer) => answer.Reason == Inference.FinishReason.Stop ? "stop" : "length";

    /// <summary>What answers to one prompt cost: the prompt counts once.</summary>
    public static Usage Usage(IReadOnlyList<GeneratedText> answers) => new(answers.Max(answer => answer.PromptTokens), answers.Sum(answer => answer.NewTokens));

    private static ChatChoice Choice(GeneratedText answer, int index) =>
        new(index, new AnswerMessage(answer.Text) { ReasoningContent = answer.Thinking }, FinishReason(answer));
}
