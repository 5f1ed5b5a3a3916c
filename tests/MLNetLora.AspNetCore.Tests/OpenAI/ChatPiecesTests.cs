using System.Text.Json;
using MLNetLora.AspNetCore.OpenAI;
using MLNetLora.Inference;

namespace MLNetLora.AspNetCore.Tests.OpenAI;

/// <summary>Pieces of answers as clients get them.</summary>
public class ChatPiecesTests
{
    private static readonly ChatTools s_tools = ChatTools.Read(
        WireReader.Read(
            """
            {"tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]}
            """u8,
            WireJson.Instance.ChatRequestBody),
        ignoreUnknown: false);

    [Fact]
    public void Calls_are_given_out_whole_with_their_places_and_ids()
    {
        ChatPieces pieces = new(s_tools);
        List<AnswerDelta> deltas = [];
        string[] texts =
        [
            "I will ", "look.\n<tool", "_call>\n{\"name\": \"weather\", \"argum", "ents\": {\"city\": \"Malmö\"}}\n</tool_call>",
            "\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": null, \"days\": [1, 2]}}\n</tool_call>",
        ];
        foreach (string text in texts)
        {
            deltas.AddRange(pieces.Add(new GeneratedChunk(text)).Select(piece => piece.Delta));
        }

        deltas.AddRange(pieces.Add(Last(FinishReason.Stop)).Select(piece => piece.Delta));

        Assert.Equal("tool_calls", pieces.FinishReason);
        Assert.Equal("I will look.", string.Concat(deltas.Select(delta => delta.Content)));
        ToolCallAnswer[] calls = [.. deltas.SelectMany(delta => delta.ToolCalls ?? [])];
        Assert.Equal([0, 1], calls.Select(call => call.Index));
        Assert.Equal(2, calls.Select(call => call.Id).Distinct().Count());
        Assert.Equal("""{"city":"Malmö"}""", calls[0].Function.Arguments);
        Assert.Equal("""{"city":null,"days":[1,2]}""", calls[1].Function.Arguments);
    }

    [Fact]
    public void A_message_that_only_calls_has_no_content()
    {
        ChatPieces pieces = new(s_tools);
        ChatWhole whole = new();
        GeneratedChunk[] chunks = [new("<tool_call>{\"name\": \"weather\", \"arguments\": {}}</tool_call>"), Last(FinishReason.Stop)];
        foreach (GeneratedChunk chunk in chunks)
        {
            foreach (ChatPiece piece in pieces.Add(chunk))
            {
                whole.Add(piece);
            }
        }

        string json = JsonSerializer.Serialize(whole.Message(), WireJson.Instance.AnswerMessage);
        Assert.Contains("\"content\":null", json, StringComparison.Ordinal);
        Assert.DoesNotContain("\"index\"", json, StringComparison.Ordinal);
        Assert.Contains("\"arguments\":\"{}\"", json, StringComparison.Ordinal);
    }

    [Fact]
    public void What_was_cut_off_is_length_whatever_it_calls()
    {
        ChatPieces pieces = new(s_tools);
        pieces.Add(new GeneratedChunk("<tool_call>{\"name\": \"weather\", \"arguments\": {}}</tool_call>"));
        pieces.Add(Last(FinishReason.Length));
        Assert.Equal("length", pieces.FinishReason);
    }

    [Fact]
    public void Without_tools_a_call_is_text()
    {
        ChatPieces pieces = new(s_tools with { Descriptions = [] });
        Assert.Equal("<tool_call>", Assert.Single(pieces.Add(new GeneratedChunk("<tool_call>"))).Delta.Content);
        pieces.Add(Last(FinishReason.Stop));
        Assert.Equal("stop", pieces.FinishReason);
    }

    [Fact]
    public void Log_probabilities_are_those_of_the_answer_alone()
    {
        ChatPieces pieces = new(s_tools with { Descriptions = [] });
        ChatWhole whole = new();
        GeneratedChunk[] chunks =
        [
            new("Hm", IsThinking: true) { Tokens = [Token("Hm")] },
            new("Ja.") { Tokens = [Token("</think>"), Token("\n\n"), Token("J"), Token("a.")] },
            new(" Nein") { Tokens = [Token(" Nein")] },
            Last(FinishReason.Stop) with { Tokens = [Token("<|im_end|>")] },
        ];
        foreach (ChatPiece piece in chunks.SelectMany(pieces.Add))
        {
            whole.Add(piece);
        }

        Assert.Equal(["J", "a.", " Nein"], whole.Logprobs().Content.Select(token => token.Token));
        Assert.Equal([74], whole.Logprobs().Content[0].Bytes);
    }

    private static GeneratedToken Token(string text) => new(1, System.Text.Encoding.UTF8.GetBytes(text), -1, []);

    private static GeneratedChunk Last(FinishReason reason) => new("") { Answer = new GeneratedText("", reason, 1, 1) };
}
