using System.Diagnostics;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using MLNetLora.AspNetCore.Tests.OpenAI;

namespace MLNetLora.Bench;

/// <summary>What clients do that nobody wishes for.</summary>
internal sealed class SoakMischief(SoakClient client, SoakBalancer balancer, SoakJudge judge, string name, int mostBytes, SoakTally tally)
{
    private readonly (string Path, string Body)[] _bodies =
        [.. judge.Requests.Select(request => (request.Path, request.Body(name, isStream: request.Id % 2 == 0)))];

    /// <summary>One of it.</summary>
    public async Task DoAsync(Random random)
    {
        SoakReplica replica = balancer.Next();
        long sent = Stopwatch.GetTimestamp();
        int what = random.Next(8);
        try
        {
            await (what switch
            {
                0 => LeaveAsync(random, replica),
                1 => CancelAsync(random, replica),
                2 => HalfAsync(random, replica),
                3 => OversizeAsync(random, replica),
                4 when client.Key is not null => ExpectAsync("wrong key", 401, "invalid_api_key", replica, name, "nobody's key"),
                5 => ExpectAsync("unknown model", 404, "model_not_found", replica, "nobody-" + random.Next(100), null),
                _ => MutatedAsync(random, replica),
            });
        }
        catch (Exception error) when (error is HttpRequestException or IOException or SocketException or OperationCanceledException)
        {
            if (!SoakClient.WasRefused(error) && error is not SocketException && !replica.WasTold(sent))
            {
                tally.Fault("cut", $"misbehaviour {what} at {replica.Address}: {error.Message} {error.InnerException?.Message}");
            }
        }
    }

    /// <summary>Goes in the middle of a stream.</summary>
    private async Task LeaveAsync(Random random, SoakReplica replica)
    {
        int status = await client.LeaveAsync(replica, "completions", Long(random), random.Next(200, 4000), CancellationToken.None);
        Status("left in a stream", status, 200);
    }

    /// <summary>Goes before there is anything.</summary>
    private async Task CancelAsync(Random random, SoakReplica replica)
    {
        using CancellationTokenSource source = new(TimeSpan.FromMilliseconds(random.Next(1, 60)));
        try
        {
            await client.LeaveAsync(replica, "completions", Long(random), 1, source.Token);
        }
        catch (OperationCanceledException)
        {
            tally.Count("cancelled early");
        }
    }

    /// <summary>Sends half a body and goes, politely or not.</summary>
    private async Task HalfAsync(Random random, SoakReplica replica)
    {
        using Socket socket = new(SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync(replica.Address.Host, replica.Address.Port);
        string body = Long(random);
        string begun = $"POST /v1/completions HTTP/1.1\r\nHost: {replica.Address.Authority}\r\nContent-Type: application/json\r\n"
            + $"Authorization: Bearer {client.Key}\r\nContent-Length: {body.Length}\r\n\r\n{body[..(body.Length / 2)]}";
        await socket.SendAsync(Encoding.ASCII.GetBytes(begun));
        await Task.Delay(random.Next(50));
        socket.LingerState = new LingerOption(random.Next(2) == 0, 0);
        tally.Count("half a body");
    }

    /// <summary>Sends more than is allowed, with and without saying so at once.</summary>
    private async Task OversizeAsync(Random random, SoakReplica replica)
    {
        byte[] bytes = new byte[mostBytes + random.Next(1, 20000)];
        Array.Fill(bytes, (byte)' ');
        using ByteArrayContent content = new(bytes);
        content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
        bool isChunked = random.Next(2) == 0;
        try
        {
            SoakReply reply = await client.OnceAsync(replica, "chat/completions", content, isChunked: isChunked);
            Refusal($"over the limit{(isChunked ? ", in chunks" : "")}", reply, 413, "request_too_large", "");
        }
        catch (Exception error) when (isChunked && error is HttpRequestException or IOException && !SoakClient.WasRefused(error))
        {
            tally.Count("over the limit, in chunks: closed"); // who is still sending when the connection is closed may not see the answer
        }
    }

    private async Task ExpectAsync(string what, int status, string code, SoakReplica replica, string model, string? key)
    {
        string body = judge.Requests[0].Body(model, isStream: false);
        using StringContent content = new(body, Encoding.UTF8, "application/json");
        Refusal(what, await client.OnceAsync(replica, judge.Requests[0].Path, content, key), status, code, body);
    }

    /// <summary>A body that something has happened to: refused with a reason, or answered whole.</summary>
    private async Task MutatedAsync(Random random, SoakReplica replica)
    {
        (string path, byte[] bytes) = MutatedBodies.Make(random.Next(), _bodies);
        using ByteArrayContent content = new(bytes);
        content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
        SoakReply reply = await client.OnceAsync(replica, path, content);
        string body = Encoding.UTF8.GetString(bytes);
        if (reply.Status != 200)
        {
            tally.Count($"mutated: {reply.Status}");
            if (reply.Status is < 400 or (>= 500 and not 503) || !HasError(reply.Body))
            {
                tally.Fault($"mutated: {reply.Status}", $"{reply.Body}\n{body}");
            }

            return;
        }

        tally.Count("mutated: answered");
        try
        {
            bool isStream = JsonDocument.Parse(bytes).RootElement.TryGetProperty("stream", out JsonElement stream) && stream.ValueKind == JsonValueKind.True;
            SoakAnswer.Parse(reply.Body, JsonDocument.Parse(bytes).RootElement.GetProperty("model").GetString()!, isStream);
        }
        catch (Exception error) when (error is FormatException or JsonException)
        {
            tally.Fault("mutated: broken answer", $"{error.Message}\n{reply.Body}\n{body}");
        }
    }

    private void Refusal(string what, SoakReply reply, int status, string code, string body)
    {
        Status(what, reply.Status, status);
        if (reply.Status == status && !reply.Body.Contains($"\"{code}\"", StringComparison.Ordinal))
        {
            tally.Fault(what, $"{reply.Status} without {code}: {reply.Body}\n{body}");
        }
    }

    private void Status(string what, int status, int expected)
    {
        tally.Count($"{what}: {status}");
        if (status != expected && status is not (429 or 503))
        {
            tally.Fault(what, $"{status} in the place of {expected}");
        }
    }

    private static bool HasError(string body)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(body);
            return document.RootElement.GetProperty("error").GetProperty("message").GetString()!.Length > 10;
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException or KeyNotFoundException)
        {
            return false;
        }
    }

    private string Long(Random random) => $$"""
        {"model": "{{name}}", "prompt": "A story of number {{random.Next(50)}}", "max_tokens": 300, "ignore_eos": true, "temperature": 1, "stream": true}
        """;
}
